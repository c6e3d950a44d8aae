#include "chain/call_json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <variant>

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using Call = GenerationCall;
using CallMember = std::variant<std::optional<std::string> Call::*, std::optional<int64_t> Call::*,
                                std::optional<double> Call::*, std::vector<std::string> Call::*>;

struct CallRow {
  const char* name;
  CallMember member;
};

const CallRow kCallRows[] = {
    {"model", &Call::model},
    {"max_tokens", &Call::max_tokens},
    {"max_completion_tokens", &Call::max_completion_tokens},
    {"min_tokens", &Call::min_tokens},
    {"n", &Call::n},
    {"seed", &Call::seed},
    {"temperature", &Call::temperature},
    {"top_p", &Call::top_p},
    {"top_k", &Call::top_k},
    {"min_p", &Call::min_p},
    {"repetition_penalty", &Call::repetition_penalty},
    {"presence_penalty", &Call::presence_penalty},
    {"frequency_penalty", &Call::frequency_penalty},
    {"stop", &Call::stop},
    {"priority", &Call::priority},
    {"timeout_ms", &Call::timeout_ms},
    {"reasoning_effort", &Call::reasoning_effort},
    {"user", &Call::user},
};

Json PromptToJson(const PromptInput& prompt) {
  return prompt.is_ids ? Json(prompt.ids) : Json(prompt.text);
}

bool PromptFromJson(const Json& json, PromptInput& prompt) {
  prompt = {};
  if (json.is_string()) {
    prompt.text = json.get<std::string>();
    return true;
  }
  if (!json.is_array()) return false;
  prompt.is_ids = true;
  for (const Json& id : json) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() > std::numeric_limits<TokenId>::max())
      return false;
    prompt.ids.push_back(static_cast<TokenId>(id.get<int64_t>()));
  }
  return true;
}

/// False where the value is of a wrong type.
struct SetCallMember {
  const Json* value;  // null: it is not there
  Call& call;
  bool operator()(std::optional<std::string> Call::*member) const {
    if (value != nullptr && !value->is_string()) return false;
    call.*member = value == nullptr ? std::nullopt : std::optional(value->get<std::string>());
    return true;
  }
  bool operator()(std::optional<int64_t> Call::*member) const {
    if (value == nullptr) {
      call.*member = std::nullopt;
    } else if (value->is_number_integer()) {
      call.*member = value->get<int64_t>();
    } else {
      const double number = value->is_number() ? value->get<double>() : 0.5;
      if (std::trunc(number) != number || std::abs(number) > 9e15) return false;
      call.*member = static_cast<int64_t>(number);
    }
    return true;
  }
  bool operator()(std::optional<double> Call::*member) const {
    if (value != nullptr && (!value->is_number() || !std::isfinite(value->get<double>())))
      return false;
    call.*member = value == nullptr ? std::nullopt : std::optional(value->get<double>());
    return true;
  }
  bool operator()(std::vector<std::string> Call::*member) const {
    (call.*member).clear();
    if (value == nullptr) return true;
    if (value->is_string()) {
      (call.*member).push_back(value->get<std::string>());
      return true;
    }
    if (!value->is_array()) return false;
    for (const Json& item : *value) {
      if (!item.is_string()) return false;
      (call.*member).push_back(item.get<std::string>());
    }
    return true;
  }
};

/// An equal value stays the object that it was, so that nobody checks it again.
void SetShared(const Json* value, std::shared_ptr<const Json>& member) {
  if (value == nullptr || value->is_null()) {
    member.reset();
  } else if (!member || *member != *value) {
    member = std::make_shared<const Json>(*value);
  }
}

}  // namespace

Json CallToJson(const Call& call) {
  Json out = Json::object();
  for (const CallRow& row : kCallRows) {
    std::visit(
        [&](auto member) {
          if constexpr (std::is_same_v<decltype(member), std::vector<std::string> Call::*>) {
            if (!(call.*member).empty()) out[row.name] = call.*member;
          } else {
            if (call.*member) out[row.name] = *(call.*member);
          }
        },
        row.member);
  }
  if (call.stream) out["stream"] = *call.stream;
  if (call.chat) {
    if (call.messages) out["messages"] = *call.messages;
    if (call.tools) out["tools"] = *call.tools;
    if (call.documents) out["documents"] = *call.documents;
  } else if (call.prompts.size() == 1) {
    out["prompt"] = PromptToJson(call.prompts.front());
  } else {
    out["prompt"] = Json::array();
    for (const PromptInput& prompt : call.prompts) out["prompt"].push_back(PromptToJson(prompt));
  }
  return out;
}

std::string CallFromJson(const Json& json, Call& call) {
  if (!json.is_object()) return "the request must be an object";
  const auto find = [&](const char* name) -> const Json* {
    const auto it = json.find(name);
    return it == json.end() || it->is_null() ? nullptr : &*it;
  };
  for (const CallRow& row : kCallRows) {
    if (!std::visit(SetCallMember{find(row.name), call}, row.member))
      return std::string(row.name) + " is of a wrong type";
  }
  if (call.chat) {
    if (find("messages") == nullptr) return "messages is missing";
    SetShared(find("messages"), call.messages);
    SetShared(find("tools"), call.tools);
    SetShared(find("documents"), call.documents);
    return "";
  }
  const Json* prompt = find("prompt");
  if (prompt == nullptr) return "prompt is missing";
  std::vector<PromptInput> prompts(1);
  const bool several = prompt->is_array() && !prompt->empty() && !prompt->front().is_number();
  if (!several) {
    if (!PromptFromJson(*prompt, prompts.front())) return "prompt is of a wrong type";
  } else {
    prompts.clear();
    for (const Json& item : *prompt) {
      if (!PromptFromJson(item, prompts.emplace_back())) return "prompt is of a wrong type";
    }
  }
  call.prompts = std::move(prompts);
  return "";
}

}  // namespace penstock
