#include "api/openai/call_codec.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/chat_messages.h"
#include "service/output_format.h"
#include "service/tool_choice.h"

namespace penstock {
namespace {

std::optional<TokenId> ToTokenId(const WireValue& value) {
  if (!value.is_integer()) return std::nullopt;
  const std::optional<int64_t> number = value.integer();
  if (!number || *number < 0 || *number > std::numeric_limits<TokenId>::max()) return std::nullopt;
  return static_cast<TokenId>(*number);
}

struct Assign {
  const CallField& field;
  const WireValue& value;
  GenerationCall& call;

  absl::Status Wrong() const { return WrongWireType(field.name, ExpectedValue(field), value); }
  /// The same of one of a list.
  absl::Status WrongItem(size_t index, std::string_view expected, const WireValue& item) const {
    return WrongWireItem(field.name, index, expected, item);
  }
  absl::Status operator()(std::optional<double> GenerationCall::*member) const {
    if (!value.is_number()) return Wrong();
    call.*member = value.number();
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<int64_t> GenerationCall::*member) const {
    const std::optional<int64_t> number = value.integer();
    if (!number) return Wrong();
    call.*member = *number;
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<bool> GenerationCall::*member) const {
    if (!value.is_boolean()) return Wrong();
    call.*member = value.boolean();
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<std::string> GenerationCall::*member) const {
    if (!value.is_string()) return Wrong();
    call.*member = std::string(value.text());
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::string> GenerationCall::*member) const {
    if (value.is_string()) {
      (call.*member) = {std::string(value.text())};
      return absl::OkStatus();
    }
    if (!value.is_array()) return Wrong();
    const std::vector<WireValue> items = value.Items();
    for (size_t i = 0; i < items.size(); ++i) {
      if (!items[i].is_string()) return WrongItem(i, "a string", items[i]);
      (call.*member).emplace_back(items[i].text());
    }
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<TokenId> GenerationCall::*member) const {
    if (!value.is_array()) return Wrong();
    const std::vector<WireValue> items = value.Items();
    for (size_t i = 0; i < items.size(); ++i) {
      const std::optional<TokenId> id = ToTokenId(items[i]);
      if (!id) return WrongItem(i, "a token id", items[i]);
      (call.*member).push_back(*id);
    }
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::pair<TokenId, double>> GenerationCall::*member) const {
    if (!value.is_object()) return Wrong();
    for (const auto& [key, number] : value.Members()) {
      if (!number.is_number()) return Wrong();
      int64_t id = -1;
      if (!absl::SimpleAtoi(ToAbsl(key), &id)) {
        call.text_bias.emplace_back(key, number.number());
        continue;
      }
      if (id < 0 || id > std::numeric_limits<TokenId>::max()) return Wrong();
      (call.*member).emplace_back(static_cast<TokenId>(id), number.number());
    }
    return absl::OkStatus();
  }
  absl::Status operator()(OwnForm) const { return Wrong(); }  // no codec hands it here
};

absl::Status ReadIds(const std::vector<WireValue>& items, std::string_view name,
                     PromptInput& prompt) {
  prompt.is_ids = true;
  prompt.ids.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const std::optional<TokenId> id = ToTokenId(items[i]);
    if (!id) return WrongWireItem(name, i, "a token id", items[i]);
    prompt.ids.push_back(*id);
  }
  return absl::OkStatus();
}

absl::Status ReadStreamOptions(const WireValue& value, GenerationCall& call) {
  if (!value.is_object()) return WrongWireType("stream_options", "an object", value);
  call.include_usage = false;  // said, so that its use without a stream is noticed
  for (const auto& [key, option] : value.Members()) {
    const bool usage = key == "include_usage", continuous = key == "continuous_usage_stats";
    if ((!usage && !continuous) || option.is_null()) continue;
    if (!option.is_boolean()) {
      return WrongWireType(absl::StrCat("stream_options.", ToAbsl(key)), "true or false", option);
    }
    (usage ? call.include_usage : call.continuous_usage_stats) = option.boolean();
  }
  return absl::OkStatus();
}

absl::Status ReadOwnForm(std::string_view name, const WireValue& value, GenerationCall& call) {
  if (name == "prompt") return ReadPrompts(name, false, value, call.prompts);
  if (name == "stream_options") return ReadStreamOptions(value, call);
  nlohmann::ordered_json tree = value.Tree();  // is kept, or seldom there
  if (name == "tool_choice") return ReadToolChoice(name, tree, call);
  if (IsChatField(name)) return ReadChatField(name, tree, call);
  if (IsFormatField(name)) return ReadFormatField(name, tree, call);
  return CheckOnlyValue(name, tree);
}

}  // namespace

absl::Status ReadPrompts(std::string_view name, bool name_entries, const WireValue& value,
                         std::vector<PromptInput>& prompts) {
  constexpr std::string_view kExpected =
      "a string, an array of strings, an array of token ids or an array of such arrays";
  if (value.is_string()) {
    prompts.push_back({std::string(value.text()), {}, false});
    return absl::OkStatus();
  }
  if (!value.is_array()) return WrongWireType(name, kExpected, value);
  const std::vector<WireValue> items = value.Items();
  if (items.empty()) {
    return InvalidField(name,
                        absl::StrCat(ToAbsl(name), " is empty: at least one token is needed"));
  }
  if (items.front().is_number()) return ReadIds(items, name, prompts.emplace_back());
  for (size_t i = 0; i < items.size(); ++i) {
    const WireValue& item = items[i];
    std::string entry(name);
    if (name_entries) absl::StrAppend(&entry, "[", i, "]");
    PromptInput& prompt = prompts.emplace_back();
    if (item.is_string()) {
      prompt.text = std::string(item.text());
    } else if (item.is_array()) {
      RETURN_IF_ERROR(ReadIds(item.Items(), entry, prompt));
    } else {
      return WrongWireType(entry, name_entries ? "a string or an array of token ids" : kExpected,
                           item);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadField(const CallField& field, const WireValue& value, GenerationCall& call) {
  return std::visit(Assign{field, value, call}, field.member);
}

absl::Status ReadFields(const WireValue& body, Surface surface, GenerationCall& call,
                        ReadOwn read_own_form) {
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  for (const auto& [name, value] : body.Members()) {
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

absl::Status ReadCall(const WireValue& body, Surface surface, GenerationCall& call) {
  call.chat = call.splits_reply = surface == kChat;
  RETURN_IF_ERROR(
      ReadFields(body, surface, call, [&](std::string_view name, const WireValue& value) {
        return ReadOwnForm(name, value, call);
      }));
  if (surface == kCompletions && call.prompts.empty())
    return InvalidField("prompt", "prompt is missing");
  if (surface == kChat && !call.messages) return InvalidField("messages", "messages is missing");
  return absl::OkStatus();
}

}  // namespace penstock
