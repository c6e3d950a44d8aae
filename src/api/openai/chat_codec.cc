// The messages of a chat, and the fields of the API that this server refuses.
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/openai/call_codec.h"
#include "api/openai/json_body.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

// Text parts become one string, a line each.
absl::Status JoinParts(Json& content, const std::string& at) {
  std::string joined;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string part_at = absl::StrCat(at, "[", i, "]");
    if (part.is_string()) {
      absl::StrAppend(&joined, i == 0 ? "" : "\n", part.get_ref<const std::string&>());
      continue;
    }
    if (!part.is_object())
      return InvalidField(part_at, absl::StrCat(part_at, " must be an object with a type"));
    const auto type = part.find("type");
    if (type == part.end() || !type->is_string()) {
      return InvalidField(part_at, absl::StrCat(part_at, ".type is missing: \"text\" is expected"));
    }
    const std::string& kind = type->get_ref<const std::string&>();
    const bool refusal = kind == "refusal";
    if (kind != "text" && kind != "input_text" && kind != "output_text" && !refusal) {
      return InvalidField(part_at, absl::StrCat(part_at, " is of type \"", kind,
                                                "\": only text is supported by this model"));
    }
    const auto text = part.find(refusal ? "refusal" : "text");
    if (text == part.end() || !text->is_string()) {
      return InvalidField(part_at, absl::StrCat(part_at, ".text must be a string"));
    }
    absl::StrAppend(&joined, i == 0 ? "" : "\n", text->get_ref<const std::string&>());
  }
  content = std::move(joined);
  return absl::OkStatus();
}

// Templates want the arguments of earlier calls as an object; the wire carries them as a string of
// JSON.
absl::Status ReadToolCalls(Json& calls, const std::string& at) {
  if (!calls.is_array()) return InvalidField(at, absl::StrCat(at, " must be an array"));
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string call_at = absl::StrCat(at, "[", i, "]");
    if (!calls[i].is_object())
      return InvalidField(call_at, absl::StrCat(call_at, " must be an object"));
    const auto function = calls[i].find("function");
    if (function == calls[i].end()) continue;
    if (!function->is_object())
      return InvalidField(call_at, absl::StrCat(call_at, ".function must be an object"));
    const auto arguments = function->find("arguments");
    if (arguments == function->end() || !arguments->is_string()) continue;
    absl::StatusOr<Json> parsed = ParseJson(arguments->get_ref<const std::string&>());
    if (parsed.ok() && parsed->is_object()) *arguments = *std::move(parsed);
  }
  return absl::OkStatus();
}

absl::Status ReadMessage(Json& message, const std::string& at) {
  if (!message.is_object()) return InvalidField(at, absl::StrCat(at, " must be an object"));
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string() || role->get_ref<const std::string&>().empty()) {
    return InvalidField(
        at + ".role", absl::StrCat(at, ".role must be a string: system, user, assistant or tool"));
  }
  const auto calls = message.find("tool_calls");
  const bool has_calls = calls != message.end() && !calls->is_null();
  if (has_calls) RETURN_IF_ERROR(ReadToolCalls(*calls, at + ".tool_calls"));
  const std::string content_at = at + ".content";
  const auto content = message.find("content");
  const bool silent = content == message.end() || content->is_null();
  if (silent) {
    if (role->get_ref<const std::string&>() == "assistant") return absl::OkStatus();
    return InvalidField(content_at, absl::StrCat(content_at, " is missing"));
  }
  if (content->is_array()) return JoinParts(*content, content_at);
  if (content->is_string()) return absl::OkStatus();
  return InvalidField(content_at,
                      absl::StrCat(content_at, " must be a string or an array of text parts, got ",
                                   content->type_name()));
}

struct UnsupportedField {
  std::string_view name;
  uint8_t surfaces;
  std::string_view instead;
};

constexpr UnsupportedField kUnsupported[] = {
    {"structured_outputs", kHttp, "structured output is not supported"},
    {"guided_json", kHttp, "structured output is not supported"},
    {"guided_regex", kHttp, "structured output is not supported"},
    {"guided_choice", kHttp, "structured output is not supported"},
    {"guided_grammar", kHttp, "structured output is not supported"},
    {"guided_json_object", kHttp, "structured output is not supported"},
    {"bad_words", kHttp, "use logit_bias to keep tokens out"},
    {"prompt_logprobs", kHttp, "echo with logprobs on /v1/completions gives them"},
    {"suffix", kCompletions, "filling in before a suffix is not supported"},
    {"use_beam_search", kHttp, "beam search is not supported"},
    {"logits_processors", kHttp, "custom processors are not supported"},
    {"prompt_embeds", kHttp, "a prompt is text or token ids"},
    {"functions", kChat, "use tools"},
    {"function_call", kChat, "use tools"},
    {"audio", kChat, "only text is supported"},
    {"web_search_options", kChat, "web search is not supported"},
    {"echo", kChat, "echo is for /v1/completions"},
};

bool IsUsed(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return false;
    case Json::value_t::boolean:
      return value.get<bool>();
    case Json::value_t::string:
    case Json::value_t::array:
    case Json::value_t::object:
      return !value.empty() && value != "";
    default:
      return true;
  }
}

absl::Status CheckResponseFormat(const Json& value) {
  if (!value.is_object())
    return InvalidField("response_format", "response_format must be an object with a type");
  const auto type = value.find("type");
  if (type != value.end() && *type == "text") return absl::OkStatus();
  return InvalidField(
      "response_format",
      "response_format: only {\"type\": \"text\"} is supported, structured output is not yet");
}

absl::Status CheckToolChoice(const Json& value) {
  if (value == "none" || value == "auto") return absl::OkStatus();
  return InvalidField(
      "tool_choice",
      "tool_choice: only \"none\" and \"auto\" are supported, a forced call is not yet");
}

}  // namespace

absl::Status ReadMessages(Json& value, GenerationCall& call) {
  if (!value.is_array() || value.empty()) {
    return InvalidField("messages", "messages must be an array of at least one message");
  }
  for (size_t i = 0; i < value.size(); ++i) {
    RETURN_IF_ERROR(ReadMessage(value[i], absl::StrCat("messages[", i, "]")));
  }
  call.messages = std::make_shared<const Json>(std::move(value));
  return absl::OkStatus();
}

absl::Status RefuseUnsupported(std::string_view name, const Json& value, Surface surface) {
  if (name == "response_format") return CheckResponseFormat(value);
  if (name == "tool_choice" && surface == kChat) return CheckToolChoice(value);
  if (name == "modalities" && surface == kChat) {
    if (value == Json::array({"text"})) return absl::OkStatus();
    return InvalidField(name, "modalities: only [\"text\"] is supported");
  }
  if (name == "spaces_between_special_tokens" && value == false) {
    return InvalidField(name, "spaces_between_special_tokens: false is not supported");
  }
  for (const UnsupportedField& field : kUnsupported) {
    if (field.name == name && (field.surfaces & surface) != 0 && IsUsed(value)) {
      return InvalidField(name,
                          absl::StrCat(ToAbsl(name), " is not supported: ", ToAbsl(field.instead)));
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock
