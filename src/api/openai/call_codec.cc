#include "api/openai/call_codec.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
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

std::optional<int64_t> ToInteger(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return static_cast<int64_t>(number);
    return std::nullopt;
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::trunc(number) == number && std::abs(number) < 9e15)
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

std::optional<TokenId> ToTokenId(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const std::optional<int64_t> number = ToInteger(value);
  if (!number || *number < 0 || *number > std::numeric_limits<TokenId>::max()) return std::nullopt;
  return static_cast<TokenId>(*number);
}

struct Assign {
  const CallField& field;
  const Json& value;
  GenerationCall& call;

  absl::Status Wrong() const { return WrongJsonType(field.name, ExpectedValue(field), value); }
  /// The same of one of a list.
  absl::Status WrongItem(size_t index, std::string_view expected) const {
    return WrongJsonItem(field.name, index, expected, value[index]);
  }
  absl::Status operator()(std::optional<double> GenerationCall::*member) const {
    if (!value.is_number()) return Wrong();
    call.*member = value.get<double>();
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<int64_t> GenerationCall::*member) const {
    const std::optional<int64_t> number = ToInteger(value);
    if (!number) return Wrong();
    call.*member = *number;
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<bool> GenerationCall::*member) const {
    if (!value.is_boolean()) return Wrong();
    call.*member = value.get<bool>();
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<std::string> GenerationCall::*member) const {
    if (!value.is_string()) return Wrong();
    call.*member = value.get_ref<const std::string&>();
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::string> GenerationCall::*member) const {
    if (value.is_string()) {
      (call.*member) = {value.get_ref<const std::string&>()};
      return absl::OkStatus();
    }
    if (!value.is_array()) return Wrong();
    for (size_t i = 0; i < value.size(); ++i) {
      if (!value[i].is_string()) return WrongItem(i, "a string");
      (call.*member).push_back(value[i].get_ref<const std::string&>());
    }
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<TokenId> GenerationCall::*member) const {
    if (!value.is_array()) return Wrong();
    for (size_t i = 0; i < value.size(); ++i) {
      const std::optional<TokenId> id = ToTokenId(value[i]);
      if (!id) return WrongItem(i, "a token id");
      (call.*member).push_back(*id);
    }
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::pair<TokenId, double>> GenerationCall::*member) const {
    if (!value.is_object()) return Wrong();
    for (const auto& [key, number] : value.items()) {
      if (!number.is_number()) return Wrong();
      int64_t id = -1;
      if (!absl::SimpleAtoi(key, &id)) {
        call.text_bias.emplace_back(key, number.get<double>());
        continue;
      }
      if (id < 0 || id > std::numeric_limits<TokenId>::max()) return Wrong();
      (call.*member).emplace_back(static_cast<TokenId>(id), number.get<double>());
    }
    return absl::OkStatus();
  }
  absl::Status operator()(OwnForm) const { return Wrong(); }  // no codec hands it here
};

absl::Status ReadIds(const Json& value, std::string_view name, PromptInput& prompt) {
  prompt.is_ids = true;
  prompt.ids.reserve(value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    const std::optional<TokenId> id = ToTokenId(value[i]);
    if (!id) {
      return WrongJsonItem(name, i, "a token id", value[i]);
    }
    prompt.ids.push_back(*id);
  }
  return absl::OkStatus();
}

absl::Status ReadStreamOptions(const Json& value, GenerationCall& call) {
  if (!value.is_object()) return WrongJsonType("stream_options", "an object", value);
  call.include_usage = false;  // said, so that its use without a stream is noticed
  for (const auto& [key, option] : value.items()) {
    const bool usage = key == "include_usage", continuous = key == "continuous_usage_stats";
    if ((!usage && !continuous) || option.is_null()) continue;
    if (!option.is_boolean())
      return WrongJsonType(absl::StrCat("stream_options.", key), "true or false", option);
    (usage ? call.include_usage : call.continuous_usage_stats) = option.get<bool>();
  }
  return absl::OkStatus();
}

absl::Status ReadOwnForm(std::string_view name, Json& value, GenerationCall& call) {
  if (name == "prompt") return ReadPrompts(name, false, value, call.prompts);
  if (name == "stream_options") return ReadStreamOptions(value, call);
  if (name == "tool_choice") return ReadToolChoice(name, value, call);
  if (IsChatField(name)) return ReadChatField(name, value, call);
  if (IsFormatField(name)) return ReadFormatField(name, value, call);
  return CheckOnlyValue(name, value);
}

}  // namespace

absl::Status ReadPrompts(std::string_view name, bool name_entries, Json& value,
                         std::vector<PromptInput>& prompts) {
  constexpr std::string_view kExpected =
      "a string, an array of strings, an array of token ids or an array of such arrays";
  if (value.is_string()) {
    prompts.push_back({std::move(value.get_ref<std::string&>()), {}, false});
    return absl::OkStatus();
  }
  if (!value.is_array()) return WrongJsonType(name, kExpected, value);
  if (value.empty()) {
    return InvalidField(name,
                        absl::StrCat(ToAbsl(name), " is empty: at least one token is needed"));
  }
  if (value.front().is_number()) return ReadIds(value, name, prompts.emplace_back());
  for (size_t i = 0; i < value.size(); ++i) {
    Json& item = value[i];
    std::string entry(name);
    if (name_entries) absl::StrAppend(&entry, "[", i, "]");
    PromptInput& prompt = prompts.emplace_back();
    if (item.is_string()) {
      prompt.text = std::move(item.get_ref<std::string&>());
    } else if (item.is_array()) {
      RETURN_IF_ERROR(ReadIds(item, entry, prompt));
    } else {
      return WrongJsonType(entry, name_entries ? "a string or an array of token ids" : kExpected,
                           item);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadField(const CallField& field, const Json& value, GenerationCall& call) {
  return std::visit(Assign{field, value, call}, field.member);
}

absl::Status ReadFields(Json& body, Surface surface, GenerationCall& call, ReadOwn read_own_form) {
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  for (auto& [name, value] : body.items()) {
    if (value.is_null()) continue;
    const CallField* field = FindCallField(name, surface);
    if (field == nullptr) {
      RETURN_IF_ERROR(RefuseUnsupported(name, value, surface));
    } else if (std::holds_alternative<OwnForm>(field->member)) {
      RETURN_IF_ERROR(read_own_form(name, value));
    } else {
      RETURN_IF_ERROR(ReadField(*field, value, call));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadCall(Json& body, Surface surface, GenerationCall& call) {
  call.chat = call.splits_reply = surface == kChat;
  RETURN_IF_ERROR(ReadFields(body, surface, call, [&](std::string_view name, Json& value) {
    return ReadOwnForm(name, value, call);
  }));
  if (surface == kCompletions && call.prompts.empty())
    return InvalidField("prompt", "prompt is missing");
  if (surface == kChat && !call.messages) return InvalidField("messages", "messages is missing");
  return absl::OkStatus();
}

}  // namespace penstock
