#include "api/openai/responses_codec.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/openai/call_codec.h"
#include "api/openai/responses_input.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/chat_messages.h"
#include "service/json_body.h"
#include "service/output_format.h"
#include "service/tool_choice.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMetadata = 16;                              // pairs, as in the OpenAI API
constexpr size_t kMaxMetadataKey = 64, kMaxMetadataValue = 512;  // bytes

absl::Status ReadText(std::string_view name, Json& value, std::optional<std::string>& to) {
  if (!value.is_string()) return WrongJsonType(name, "a string", value);
  to = std::move(value.get_ref<std::string&>());
  return absl::OkStatus();
}

absl::Status ReadFlag(std::string_view name, const Json& value, bool& to) {
  if (!value.is_boolean()) return WrongJsonType(name, "true or false", value);
  to = value.get<bool>();
  return absl::OkStatus();
}

absl::Status ReadMetadata(const Json& value, std::string& to) {
  constexpr std::string_view kExpected = "an object of strings";
  if (!value.is_object()) return WrongJsonType("metadata", kExpected, value);
  if (value.size() > kMaxMetadata) {
    return InvalidField("metadata", absl::StrCat("metadata has ", value.size(),
                                                 " pairs, the most is ", kMaxMetadata));
  }
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) return WrongJsonType("metadata", kExpected, text);
    if (key.size() > kMaxMetadataKey ||
        text.get_ref<const std::string&>().size() > kMaxMetadataValue) {
      return InvalidField("metadata", absl::StrCat("metadata: a key may have ", kMaxMetadataKey,
                                                   " bytes and a value ", kMaxMetadataValue));
    }
  }
  to = value.dump();
  return absl::OkStatus();
}

absl::Status ReadTextFormat(const Json& value, std::string& text, GenerationCall& call) {
  if (!value.is_object()) return WrongJsonType("text", "an object with a format", value);
  const auto format = value.find("format");
  if (format == value.end() || format->is_null()) return absl::OkStatus();
  RETURN_IF_ERROR(ReadFlatFormat("text.format", *format, call));
  text = Json{{"format", *format}}.dump();
  return absl::OkStatus();
}

absl::Status ReadReasoning(const Json& value, std::optional<std::string>& effort) {
  if (!value.is_object()) return WrongJsonType("reasoning", "an object", value);
  const auto found = value.find("effort");
  if (found == value.end() || found->is_null()) return absl::OkStatus();
  if (!found->is_string()) return WrongJsonType("reasoning.effort", "a string", *found);
  effort = found->get<std::string>();
  return absl::OkStatus();
}

absl::Status CheckInclude(const Json& value) {
  if (!value.is_array()) return WrongJsonType("include", "an array of strings", value);
  for (const Json& item : value) {
    if (!item.is_string()) return WrongJsonType("include", "an array of strings", item);
    if (item == "message.output_text.logprobs")
      return InvalidField("include", "include: log-probabilities are not supported here");
  }
  return absl::OkStatus();  // of what else there is, answers have nothing
}

absl::Status ReadOwnForm(std::string_view name, Json& value, ResponseRequest& request,
                         Json& messages, Json& items, GenerationCall& call) {
  if (name == "input") return ReadResponseInput(value, messages, items);
  if (name == "tools") {
    request.tools = value.dump();
    return ReadResponseTools(value, call);
  }
  if (name == "instructions") return ReadText(name, value, request.instructions);
  if (name == "previous_response_id") return ReadText(name, value, request.previous_response_id);
  if (name == "store") return ReadFlag(name, value, request.store);
  if (name == "metadata") return ReadMetadata(value, request.metadata);
  if (name == "text") return ReadTextFormat(value, request.text, call);
  if (IsFormatField(name)) return ReadFormatField(name, value, call);
  if (name == "reasoning") return ReadReasoning(value, request.reasoning_effort);
  if (name == "include") return CheckInclude(value);
  if (name == "tool_choice") {
    request.tool_choice = value.dump();
    return ReadToolChoice(name, value, call);
  }
  if (name == "truncation") {
    if (value == "disabled") return absl::OkStatus();
    return InvalidField("truncation", "truncation: only \"disabled\" is supported");
  }
  return value.is_object() ? absl::OkStatus() : WrongJsonType(name, "an object", value);
}

}  // namespace

absl::Status ReadResponseCall(const WireValue& body, GenerationCall& call,
                              ResponseRequest& request) {
  call.chat = call.splits_reply = true;
  Json messages = Json::array(), items = Json::array();
  RETURN_IF_ERROR(
      ReadFields(body, kResponses, call, [&](std::string_view name, const WireValue& value) {
        Json tree = value.Tree();
        return IsChatField(name) && name != "tools"
                   ? ReadChatField(name, tree, call)
                   : ReadOwnForm(name, tree, request, messages, items, call);
      }));
  if (messages.empty() && !request.previous_response_id)
    return InvalidField("input", "input is missing");
  request.stream = call.stream.value_or(false);
  request.max_output_tokens = call.max_completion_tokens;
  request.temperature = call.temperature;
  request.top_p = call.top_p;
  request.parallel_tool_calls = call.parallel_tool_calls.value_or(true);
  request.user = call.user;
  if (!call.reasoning_effort) call.reasoning_effort = request.reasoning_effort;
  request.conversation = std::make_shared<const Json>(std::move(messages));
  request.items = std::make_shared<const Json>(std::move(items));
  return absl::OkStatus();
}

absl::Status JoinConversation(const Json* before, GenerationCall& call, ResponseRequest& request) {
  if (before != nullptr) {
    Json joined = *before;
    joined.insert(joined.end(), request.conversation->begin(), request.conversation->end());
    request.conversation = std::make_shared<const Json>(std::move(joined));
  }
  Json messages = Json::array();
  if (request.instructions)
    messages.push_back({{"role", "system"}, {"content", *request.instructions}});
  messages.insert(messages.end(), request.conversation->begin(), request.conversation->end());
  return ReadChatField("messages", messages, call);
}

absl::Status InResponseNames(const absl::Status& status) {
  const std::string field = FieldOf(status);
  if (field == "messages") return WithField(status, "input");
  return field == "max_completion_tokens" ? WithField(status, "max_output_tokens") : status;
}

}  // namespace penstock
