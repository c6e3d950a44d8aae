#include "api/anthropic/messages_codec.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/anthropic/messages_input.h"
#include "api/http/json_text.h"
#include "api/openai/call_codec.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/chat_messages.h"
#include "service/json_body.h"
#include "service/output_format.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

absl::Status ReadTurn(const std::string& at, Json& turn, Json& messages) {
  if (!turn.is_object()) return WrongJsonType(at, "an object with role and content", turn);
  const auto role = turn.find("role");
  if (role == turn.end() || (*role != "user" && *role != "assistant" && *role != "system")) {
    return InvalidField(at + ".role", at + ".role must be \"user\", \"assistant\" or \"system\"");
  }
  const auto content = turn.find("content");
  if (content == turn.end() || content->is_null())
    return InvalidField(at + ".content", at + ".content is missing");
  return ReadMessagesTurn(at + ".content", role->get<std::string>(), *content, messages);
}

absl::Status ReadTurns(Json& value, Json& messages) {
  if (!value.is_array() || value.empty())
    return InvalidField("messages", "messages must be an array of at least one message");
  for (size_t i = 0; i < value.size(); ++i)
    RETURN_IF_ERROR(ReadTurn(absl::StrCat("messages[", i, "]"), value[i], messages));
  // An empty last turn of the assistant asks for nothing in particular.
  if (messages.size() > 1 && messages.back()["role"] == "assistant" &&
      messages.back()["content"] == "" && !messages.back().contains("tool_calls")) {
    messages.erase(messages.size() - 1);
  }
  for (const Json& message : messages) {
    if (message["content"] == "" && message["role"] != "tool" && !message.contains("tool_calls"))
      return InvalidField("messages", "messages: only a last one of the assistant may be empty");
  }
  return absl::OkStatus();
}

/// Models are told by the names that templates know.
absl::Status ReadThinking(const Json& value, Json& arguments, GenerationCall& call) {
  const auto type = value.is_object() ? value.find("type") : value.end();
  if (!value.is_object() || type == value.end() ||
      (*type != "enabled" && *type != "adaptive" && *type != "disabled")) {
    return InvalidField("thinking",
                        "thinking must have a type: \"enabled\", \"adaptive\" or \"disabled\"");
  }
  const bool thinks = *type != "disabled";
  arguments = {{"enable_thinking", thinks}, {"thinking", thinks}};
  const auto budget = value.find("budget_tokens");
  if (!thinks || budget == value.end() || budget->is_null()) return absl::OkStatus();
  if (!budget->is_number_integer() || *budget < 0) {
    return WrongJsonType("thinking.budget_tokens", "an integer of at least 0", *budget);
  }
  call.reasoning_budget = budget->get<int64_t>();
  return absl::OkStatus();
}

absl::Status ReadOutputConfig(const Json& value, GenerationCall& call) {
  if (!value.is_object()) return WrongJsonType("output_config", "an object", value);
  for (const auto& [name, option] : value.items()) {
    if (option.is_null()) continue;
    const std::string at = "output_config." + name;
    if (name == "format") {
      RETURN_IF_ERROR(ReadFlatFormat(at, option, call));
      continue;
    }
    if (name != "effort") continue;
    if (!option.is_string()) return WrongJsonType(at, "a string", option);
    call.reasoning_effort = option.get<std::string>();
  }
  return absl::OkStatus();
}

std::string_view ErrorType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

absl::Status ReadMessagesCall(const WireValue& body, bool counting, GenerationCall& call) {
  call.chat = call.splits_reply = true;
  std::optional<std::string> system;
  Json messages = Json::array();
  Json thinking;
  RETURN_IF_ERROR(
      ReadFields(body, kMessages, call, [&](std::string_view name, const WireValue& wire) {
        Json value = wire.Tree();
        if (name == "messages") return ReadTurns(value, messages);
        if (name == "system") return ReadMessagesText("system", value, system.emplace());
        if (name == "thinking") return ReadThinking(value, thinking, call);
        if (name == "tools") return ReadMessagesTools(value, call);
        if (name == "tool_choice") return ReadMessagesToolChoice(value, call);
        if (name == "output_config") return ReadOutputConfig(value, call);
        if (name == "output_format") return ReadFlatFormat(name, value, call);
        if (IsFormatField(name)) return ReadFormatField(name, value, call);
        if (name == "metadata") {
          return value.is_object() ? absl::OkStatus() : WrongJsonType(name, "an object", value);
        }
        return ReadChatField(name, value, call);
      }));
  if (messages.empty()) return InvalidField("messages", "messages is missing");
  if (!counting && !call.max_tokens) return InvalidField("max_tokens", "max_tokens is missing");
  if (thinking.is_object()) {
    if (call.template_arguments != nullptr) thinking.update(*call.template_arguments);
    call.template_arguments = std::make_shared<const Json>(std::move(thinking));
  }
  if (messages.back()["role"] == "assistant") {
    if (messages.back().contains("tool_calls"))
      return InvalidField("messages", "messages: the last tool_use has no tool_result");
    call.continue_final_message = true;
    call.add_generation_prompt = false;
  }
  if (system && !system->empty())
    messages.insert(messages.begin(), Json{{"role", "system"}, {"content", *std::move(system)}});
  return ReadChatField("messages", messages, call);
}

absl::Status InMessagesNames(const absl::Status& status) {
  if (FieldOf(status) == "continue_final_message") return WithField(status, "messages");
  return FieldOf(status) == "stop" ? WithField(status, "stop_sequences") : status;
}

std::string MessagesErrorBody(int status, std::string_view message, std::string_view param,
                              std::string_view request_id) {
  std::string out = "{\"type\":\"error\",\"error\":{\"type\":";
  AppendJsonString(out, ErrorType(status));
  out += ",\"message\":";
  AppendJsonString(out, message);
  out += ",\"param\":";
  AppendJsonStringOrNull(out, param);
  out += "},\"request_id\":";
  AppendJsonString(out, request_id);
  return out + "}";
}

void MessagesErrorForm(const HttpRequest& request, std::string_view message, std::string_view param,
                       HttpResponse& response) {
  response.body = MessagesErrorBody(response.status, message, param, request.request_id);
  response.headers.emplace_back("request-id", request.request_id);
}

}  // namespace penstock
