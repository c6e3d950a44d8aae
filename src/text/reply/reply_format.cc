#include "text/reply/reply_format.h"

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "text/reply/harmony_parser.h"

namespace penstock {
namespace {

constexpr CallFormat kCallFormats[] = {
    {"hermes", "<tool_call>", "</tool_call>", CallBody::kObject, false, {}},
    {"qwen3_coder", "<tool_call>", "</tool_call>", CallBody::kQwenXml, false, {}},
    {"glm45", "<tool_call>", "", CallBody::kGlmXml, false, {}},
    {"nemotron", "<TOOLCALL>", "</TOOLCALL>", CallBody::kArray, false, {}},
    {"mistral", "[TOOL_CALLS]", "", CallBody::kMistral, false, {}, CallIdForm::kNineCharacters},
    {"llama3_json", "<|python_tag|>", "", CallBody::kObject, true, {}},
    {"granite", "<|tool_call|>", "", CallBody::kArray, false, {}},
    {"phi4", "functools", "", CallBody::kArray, false, {}},
    {"phi4_mini", "<|tool_call|>", "<|/tool_call|>", CallBody::kArray, false, {}},
    {"deepseek_v3",
     "<｜tool▁call▁begin｜>",
     "<｜tool▁call▁end｜>",
     CallBody::kDeepSeek,
     false,
     {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"}},
    {"deepseek_v31",
     "<｜tool▁call▁begin｜>",
     "<｜tool▁call▁end｜>",
     CallBody::kDeepSeek,
     false,
     {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"}},
    {"kimi_k2",
     "<|tool_call_begin|>",
     "<|tool_call_end|>",
     CallBody::kKimi,
     false,
     {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
     CallIdForm::kFunctionAndNumber},
    {"pythonic", "<|python_start|>", "<|python_end|>", CallBody::kPython, true, {}},
    {"command_r",
     "<|START_ACTION|>",
     "<|END_ACTION|>",
     CallBody::kArray,
     false,
     {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"}},
    {"command_r_plus", "Action:", "```", CallBody::kFenced, false, {}},
    {"functionary", ">>>", "", CallBody::kNameLine, false, {}},
    {"functionary_v31", "<function=", "</function>", CallBody::kNameTag, false, {}},
    {"harmony", "", "", CallBody::kHarmony, false, {}},
};

constexpr ReasoningFormat kReasoningFormats[] = {
    {"granite", "<think>", "</think>", "", "", "<response>", "</response>"},
    {"granite_prose", "Here is my thought process:", "Here is my response:"},
    {"think", "<think>", "</think>"},
    {"magistral", "[THINK]", "[/THINK]"},
    {"command_r", "<|START_THINKING|>", "<|END_THINKING|>"},
    {"harmony", "<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant",
     "<|channel|>final<|message|>"},
};

const CallFormat* CallFormatNamed(std::string_view name) {
  for (const CallFormat& format : kCallFormats) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

/// With nothing but white space behind it.
bool EndsInMarker(std::string_view marker, std::string_view prompt) {
  const size_t begin = prompt.rfind(marker);
  if (begin == std::string_view::npos) return false;
  const std::string_view after = prompt.substr(begin + marker.size());
  return after.find_first_not_of(" \n\r\t") == std::string_view::npos;
}

}  // namespace

absl::Span<const CallFormat> CallFormats() { return kCallFormats; }
absl::Span<const ReasoningFormat> ReasoningFormats() { return kReasoningFormats; }

const CallFormat* CallFormatOf(std::string_view chat_template) {
  const auto writes = [&](std::string_view what) {
    return chat_template.find(what) != std::string_view::npos;
  };
  if (writes("<|channel|>") && writes("<|start|>assistant")) return CallFormatNamed("harmony");
  if (writes("<|START_ACTION|>")) return CallFormatNamed("command_r");
  if (writes(">>>${recipient}")) return CallFormatNamed("functionary");
  if (writes("Action:\\n```json\\n[")) return CallFormatNamed("command_r_plus");
  const bool marked = writes("<tool_call>");
  if (writes("<function=")) {
    if (writes("<parameter=")) return marked ? CallFormatNamed("qwen3_coder") : nullptr;
    return writes("</function>") ? CallFormatNamed("functionary_v31") : nullptr;
  }
  if (writes("<arg_key>")) return marked ? CallFormatNamed("glm45") : nullptr;
  if (writes("<｜tool▁call▁begin｜>"))
    return CallFormatNamed(writes("```json") || writes("function<｜tool▁sep｜>") ? "deepseek_v3"
                                                                                 : "deepseek_v31");
  for (const std::string_view name : {"kimi_k2", "mistral", "granite", "nemotron"}) {
    const CallFormat* format = CallFormatNamed(name);
    if (writes(format->begin)) return format;
  }
  // Apriel, MiroThinker, MiniMax and MiniCPM: like others in part, but their calls are not.
  for (const std::string_view other :
       {"<tool_calls>[", "<use_mcp_tool>", "<invoke name=", "<|tool_call_start|>"}) {
    if (writes(other)) return nullptr;
  }
  if (marked && writes("</tool_call>")) return CallFormatNamed("hermes");
  // Llama's and ToolACE's templates write a call of a list as the name, then its bracket.
  if (writes("call.name + '('")) return CallFormatNamed("pythonic");
  if ((writes("<|start_header_id|>") || writes("<|header_start|>")) && writes("\"parameters\""))
    return CallFormatNamed("llama3_json");
  if (writes("functools")) return CallFormatNamed("phi4");
  if (writes("<|tool|>") && writes("<|/tool|>")) return CallFormatNamed("phi4_mini");
  return nullptr;
}

const ReasoningFormat* ReasoningFormatOf(std::string_view chat_template) {
  const auto writes = [&](std::string_view what) {
    return chat_template.find(what) != std::string_view::npos;
  };
  for (const ReasoningFormat& format : kReasoningFormats) {
    const std::string_view sign = format.after.empty() ? format.end : format.begin;
    // Around answers Granite's template names both marks; MiniMax's has them around results.
    if (writes(sign) &&
        writes(absl::StrCat(ToAbsl(format.answer_begin), ToAbsl(format.answer_end))))
      return &format;
  }
  return nullptr;
}

bool IsHarmony(const ReplyFormat& format) {
  return (format.calls != nullptr && format.calls->body == CallBody::kHarmony) ||
         (format.reasoning != nullptr && format.reasoning->name == "harmony");
}

std::vector<std::string_view> MarkersOf(const ReplyFormat& format) {
  std::vector<std::string_view> markers;
  if (IsHarmony(format)) return {kHarmonyMarkers.begin(), kHarmonyMarkers.end()};
  if (format.reasoning != nullptr) {
    markers = {format.reasoning->begin, format.reasoning->end};
    if (!format.reasoning->answer_end.empty())
      markers.insert(markers.end(), {format.reasoning->answer_begin, format.reasoning->answer_end});
  }
  if (format.calls != nullptr) {
    for (const std::string_view marker : {format.calls->begin, format.calls->end}) {
      if (!marker.empty()) markers.push_back(marker);
    }
    for (const std::string_view marker : format.calls->ignored) {
      if (!marker.empty()) markers.push_back(marker);
    }
    if (format.calls->body == CallBody::kDeepSeek) markers.push_back(kDeepSeekSeparator);
    if (format.calls->body == CallBody::kKimi) markers.push_back(kKimiSeparator);
    if (format.calls->body == CallBody::kGlmXml) {
      markers.insert(markers.end(),
                     {"</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"});
    }
    if (format.calls->body == CallBody::kMistral)
      markers.insert(markers.end(), {"[ARGS]", "[CALL_ID]"});
  }
  return markers;
}

bool EndsInReasoning(const ReasoningFormat& format, std::string_view prompt) {
  return EndsInMarker(format.begin, prompt);
}
bool EndsBehindReasoning(const ReasoningFormat& format, std::string_view prompt) {
  return EndsInMarker(format.end, prompt);
}

}  // namespace penstock
