#include "api/anthropic/messages_input.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "service/call_error.h"
#include "service/chat_messages.h"
#include "service/json_body.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

Json& TurnOf(const std::string& role, Json& messages) {
  if (messages.empty() || messages.back()["role"] != role)
    messages.push_back({{"role", role}, {"content", ""}});
  return messages.back();
}

void AddLine(Json& message, const char* member, const std::string& text) {
  if (!message.contains(member)) message[member] = "";
  auto& joined = message[member].get_ref<std::string&>();
  absl::StrAppend(&joined, joined.empty() || text.empty() ? "" : "\n", text);
}

absl::StatusOr<std::string> TextOf(const std::string& at, const Json& block, const char* name) {
  const auto found = block.find(name);
  const std::string field = at + "." + name;
  if (found == block.end()) return InvalidField(field, field + " is missing");
  if (!found->is_string()) return WrongJsonType(field, "a string", *found);
  return found->get<std::string>();
}

absl::Status ReadToolUse(const std::string& at, const Json& block, Json& message) {
  ASSIGN_OR_RETURN(const std::string id, TextOf(at, block, "id"));
  ASSIGN_OR_RETURN(const std::string name, TextOf(at, block, "name"));
  const auto input = block.find("input");
  if (input == block.end() || !input->is_object())
    return InvalidField(at + ".input", at + ".input must be an object");
  if (!message.contains("tool_calls")) message["tool_calls"] = Json::array();
  message["tool_calls"].push_back(
      {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", *input}}}});
  return absl::OkStatus();
}

absl::Status ReadToolResult(const std::string& at, Json& block, Json& messages) {
  ASSIGN_OR_RETURN(const std::string id, TextOf(at, block, "tool_use_id"));
  std::string text;
  const auto content = block.find("content");
  if (content != block.end() && !content->is_null())
    RETURN_IF_ERROR(ReadMessagesText(at + ".content", *content, text));
  messages.push_back({{"role", "tool"}, {"tool_call_id", id}, {"content", text}});
  return absl::OkStatus();
}

absl::Status ReadBlock(const std::string& at, const std::string& role, Json& block,
                       Json& messages) {
  if (!block.is_object()) return WrongJsonType(at, "an object with a type", block);
  const auto type = block.find("type");
  const std::string kind = type != block.end() && type->is_string() ? type->get<std::string>() : "";
  if (kind == "text") {
    ASSIGN_OR_RETURN(const std::string text, TextOf(at, block, "text"));
    AddLine(TurnOf(role, messages), "content", text);
    return absl::OkStatus();
  }
  if (kind == "tool_result" && role == "user") return ReadToolResult(at, block, messages);
  if (kind == "tool_use" && role == "assistant")
    return ReadToolUse(at, block, TurnOf(role, messages));
  if (kind == "thinking" && role == "assistant") {
    ASSIGN_OR_RETURN(const std::string text, TextOf(at, block, "thinking"));
    if (!text.empty()) AddLine(TurnOf(role, messages), "reasoning_content", text);
    return absl::OkStatus();
  }
  if (kind == "redacted_thinking" && role == "assistant") return absl::OkStatus();
  return InvalidField(
      at, absl::StrCat(at, " of type \"", kind, "\" is not supported in a turn of \"", role, "\""));
}

}  // namespace

absl::Status ReadMessagesText(const std::string& at, Json& value, std::string& text) {
  if (value.is_array()) RETURN_IF_ERROR(JoinTextParts(value, at));
  if (!value.is_string()) return WrongJsonType(at, "a string or an array of text blocks", value);
  text = std::move(value.get_ref<std::string&>());
  return absl::OkStatus();
}

absl::Status ReadMessagesTurn(const std::string& at, const std::string& role, Json& content,
                              Json& messages) {
  if (content.is_string()) {
    AddLine(TurnOf(role, messages), "content", content.get_ref<const std::string&>());
    return absl::OkStatus();
  }
  if (!content.is_array()) return WrongJsonType(at, "a string or an array of blocks", content);
  if (content.empty()) TurnOf(role, messages);
  for (size_t i = 0; i < content.size(); ++i)
    RETURN_IF_ERROR(ReadBlock(absl::StrCat(at, "[", i, "]"), role, content[i], messages));
  return absl::OkStatus();
}

absl::Status ReadMessagesTools(const Json& value, GenerationCall& call) {
  if (!value.is_array()) return WrongJsonType("tools", "an array", value);
  Json tools = Json::array();
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string at = absl::StrCat("tools[", i, "]");
    const Json& tool = value[i];
    if (!tool.is_object()) return WrongJsonType(at, "an object", tool);
    const auto type = tool.find("type");
    if (type != tool.end() && !type->is_null() && *type != "custom")
      return InvalidField(at + ".type", at + ".type: only \"custom\" is supported");
    ASSIGN_OR_RETURN(const std::string name, TextOf(at, tool, "name"));
    const auto schema = tool.find("input_schema");
    if (schema == tool.end() || !schema->is_object())
      return InvalidField(at + ".input_schema", at + ".input_schema must be a JSON Schema");
    Json function = {{"name", name}};
    for (const char* same : {"description", "strict"}) {
      if (tool.contains(same)) function[same] = tool[same];
    }
    function["parameters"] = *schema;
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return ReadChatField("tools", tools, call);
}

absl::Status ReadMessagesToolChoice(const Json& value, GenerationCall& call) {
  const auto type = value.is_object() ? value.find("type") : value.end();
  if (!value.is_object() || type == value.end() ||
      (*type != "auto" && *type != "any" && *type != "tool" && *type != "none")) {
    return InvalidField("tool_choice",
                        "tool_choice must have a type: \"auto\", \"any\", \"tool\" or \"none\"");
  }
  call.tool_choice = *type == "auto"   ? ToolChoice::kAuto
                     : *type == "any"  ? ToolChoice::kRequired
                     : *type == "tool" ? ToolChoice::kNamed
                                       : ToolChoice::kNone;
  if (call.tool_choice == ToolChoice::kNamed) {
    ASSIGN_OR_RETURN(call.named_function, TextOf("tool_choice", value, "name"));
  }
  const auto single = value.find("disable_parallel_tool_use");
  if (single == value.end() || single->is_null()) return absl::OkStatus();
  if (!single->is_boolean())
    return WrongJsonType("tool_choice.disable_parallel_tool_use", "true or false", *single);
  call.parallel_tool_calls = !single->get<bool>();
  return absl::OkStatus();
}

}  // namespace penstock
