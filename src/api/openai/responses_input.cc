#include "api/openai/responses_input.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "service/call_error.h"
#include "service/chat_messages.h"
#include "service/json_body.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

/// The string under `name`.
absl::StatusOr<std::string> TextMember(const std::string& at, const Json& item, const char* name) {
  const auto found = item.find(name);
  const std::string field = at + "." + name;
  if (found == item.end()) return InvalidField(field, field + " is missing");
  if (!found->is_string()) return WrongJsonType(field, "a string", *found);
  return found->get<std::string>();
}

/// The assistant's message that is being said.
Json& AssistantTurn(Json& messages) {
  if (messages.empty() || messages.back()["role"] != "assistant")
    messages.push_back({{"role", "assistant"}, {"content", nullptr}});
  return messages.back();
}

/// A string, or text parts, which are joined.
absl::Status JoinContent(const std::string& at, Json& item, const char* name) {
  const auto content = item.find(name);
  const std::string field = at + "." + name;
  if (content == item.end() || content->is_null())
    return InvalidField(field, field + " is missing");
  if (content->is_array()) RETURN_IF_ERROR(JoinTextParts(*content, field));
  if (!content->is_string())
    return WrongJsonType(field, "a string or an array of text parts", *content);
  return absl::OkStatus();
}

absl::Status ReadMessageItem(const std::string& at, Json item, Json& messages) {
  const auto role = item.find("role");
  if (role == item.end() ||
      (*role != "user" && *role != "assistant" && *role != "system" && *role != "developer")) {
    return InvalidField(at + ".role",
                        at + ".role must be \"user\", \"assistant\", \"system\" or \"developer\"");
  }
  RETURN_IF_ERROR(JoinContent(at, item, "content"));
  // Reasoning that came before belongs to it.
  if (*role == "assistant" && !messages.empty() && messages.back()["role"] == "assistant" &&
      messages.back()["content"].is_null() && !messages.back().contains("tool_calls")) {
    messages.back()["content"] = std::move(item["content"]);
    return absl::OkStatus();
  }
  // Templates know the developer by the older name.
  const bool system = *role == "developer" || *role == "system";
  messages.push_back({{"role", system ? Json("system") : std::move(*role)},
                      {"content", std::move(item["content"])}});
  return absl::OkStatus();
}

absl::Status ReadCallItem(const std::string& at, const Json& item, Json& messages) {
  ASSIGN_OR_RETURN(const std::string id, TextMember(at, item, "call_id"));
  ASSIGN_OR_RETURN(const std::string name, TextMember(at, item, "name"));
  ASSIGN_OR_RETURN(const std::string arguments, TextMember(at, item, "arguments"));
  Json& turn = AssistantTurn(messages);
  if (!turn.contains("tool_calls")) turn["tool_calls"] = Json::array();
  turn["tool_calls"].push_back(
      {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}});
  return absl::OkStatus();
}

absl::Status ReadOutputItem(const std::string& at, Json item, Json& messages) {
  ASSIGN_OR_RETURN(const std::string id, TextMember(at, item, "call_id"));
  RETURN_IF_ERROR(JoinContent(at, item, "output"));
  messages.push_back(
      {{"role", "tool"}, {"tool_call_id", id}, {"content", std::move(item["output"])}});
  return absl::OkStatus();
}

/// Its text, where there is one; what is encrypted says nothing here.
absl::Status ReadReasoningItem(const std::string& at, const Json& item, Json& messages) {
  std::string text;
  for (const char* name : {"content", "summary"}) {
    const auto parts = item.find(name);
    if (parts == item.end() || parts->is_null() || !text.empty()) continue;
    if (!parts->is_array()) return WrongJsonType(at + "." + name, "an array of parts", *parts);
    for (const Json& part : *parts) {
      if (!part.is_object() || !part.contains("text") || !part["text"].is_string())
        return InvalidField(at + "." + name, absl::StrCat(at, ".", name, ": a part has no text"));
      absl::StrAppend(&text, text.empty() ? "" : "\n", part["text"].get_ref<const std::string&>());
    }
  }
  if (text.empty()) return absl::OkStatus();
  messages.push_back({{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", text}});
  return absl::OkStatus();
}

absl::Status ReadItem(const std::string& at, const Json& item, Json& messages) {
  if (!item.is_object()) return WrongJsonType(at, "an object", item);
  const auto type = item.find("type");
  if (type == item.end() || *type == "message") return ReadMessageItem(at, item, messages);
  if (*type == "function_call") return ReadCallItem(at, item, messages);
  if (*type == "function_call_output") return ReadOutputItem(at, item, messages);
  if (*type == "reasoning") return ReadReasoningItem(at, item, messages);
  const std::string kind =
      type->is_string() ? Shown(type->get_ref<const std::string&>()) : "no string";
  return InvalidField(at + ".type",
                      absl::StrCat(at, ".type is \"", kind,
                                   "\": only \"message\", \"function_call\", "
                                   "\"function_call_output\" and \"reasoning\" are supported"));
}

/// A message as it is listed: with its type, and its content in parts.
Json Listed(Json item) {
  if (!item.contains("type")) item["type"] = "message";
  if (item["type"] == "message" && item["content"].is_string()) {
    const char* kind = item["role"] == "assistant" ? "output_text" : "input_text";
    item["content"] = Json::array({{{"type", kind}, {"text", item["content"]}}});
  }
  return item;
}

}  // namespace

absl::Status ReadResponseInput(Json& value, Json& messages, Json& items) {
  if (value.is_string()) value = Json::array({{{"role", "user"}, {"content", std::move(value)}}});
  if (!value.is_array()) return WrongJsonType("input", "a string or an array of items", value);
  for (size_t i = 0; i < value.size(); ++i) {
    RETURN_IF_ERROR(ReadItem(absl::StrCat("input[", i, "]"), value[i], messages));
    items.push_back(Listed(std::move(value[i])));
  }
  return absl::OkStatus();
}

absl::Status ReadResponseTools(const Json& value, GenerationCall& call) {
  if (!value.is_array()) return WrongJsonType("tools", "an array", value);
  Json tools = Json::array();
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string at = absl::StrCat("tools[", i, "]");
    if (!value[i].is_object()) return WrongJsonType(at, "an object", value[i]);
    if (!value[i].contains("type") || value[i]["type"] != "function")
      return InvalidField(at + ".type", at + ".type: only \"function\" is supported");
    Json function = value[i];
    function.erase("type");
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return ReadChatField("tools", tools, call);
}

}  // namespace penstock
