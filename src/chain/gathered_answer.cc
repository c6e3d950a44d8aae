#include "chain/gathered_answer.h"

#include <iterator>
#include <nlohmann/json.hpp>

namespace penstock {

using Json = nlohmann::ordered_json;

void GatheredAnswer::Add(const Delta& delta) {
  while (choices_.size() <= static_cast<size_t>(delta.index)) {
    const auto index = static_cast<int32_t>(choices_.size());
    choices_.emplace_back().index = index;
  }
  Delta& choice = choices_[delta.index];
  choice.text += delta.text;
  choice.reasoning += delta.reasoning;
  for (const CallDelta& call : delta.calls) {
    CallDelta* known = nullptr;
    for (CallDelta& other : choice.calls) {
      if (other.index == call.index) known = &other;
    }
    if (known == nullptr) {
      choice.calls.push_back(call);
    } else {
      known->arguments += call.arguments;
    }
  }
  choice.num_calls = delta.num_calls;
  choice.tokens.insert(choice.tokens.end(), delta.tokens.begin(), delta.tokens.end());
  choice.prompt_logprobs.insert(choice.prompt_logprobs.end(), delta.prompt_logprobs.begin(),
                                delta.prompt_logprobs.end());
  choice.completion_tokens = delta.completion_tokens;
  if (!delta.finish) return;
  choice.finish = delta.finish;
  choice.stop_token = delta.stop_token;
  choice.stop_string = delta.stop_string;
  choice.warnings = delta.warnings;
}

size_t GatheredAnswer::bytes() const {
  size_t bytes = 256;
  for (const Delta& choice : choices_) {
    bytes +=
        sizeof(Delta) + choice.text.size() + choice.reasoning.size() + choice.stop_string.size();
    for (const CallDelta& call : choice.calls)
      bytes += sizeof(CallDelta) + call.id.size() + call.name.size() + call.arguments.size();
  }
  return bytes;
}

Json GatheredAnswer::ToJson() const {
  Json choices = Json::array();
  for (const Delta& choice : choices_) {
    Json item = {{"index", choice.index}, {"text", choice.text}};
    if (!choice.reasoning.empty()) item["reasoning"] = choice.reasoning;
    for (const CallDelta& call : choice.calls)
      item["tool_calls"].push_back({{"name", call.name}, {"arguments", call.arguments}});
    if (choice.finish)
      item["finish_reason"] = choice.finish == FinishReason::kStop ? "stop" : "length";
    choices.push_back(std::move(item));
  }
  return {{"choices", std::move(choices)}};
}

std::string GatheredAnswer::TakeTexts(const Json& json) {
  if (!json.is_object() || !json.contains("choices") || !json["choices"].is_array() ||
      json["choices"].size() != choices_.size())
    return "the response must have as many choices as it had";
  const auto take = [](const Json& object, const char* name, std::string& text) {
    const auto it = object.find(name);
    if (it == object.end() || it->is_null()) {
      text.clear();
      return true;
    }
    if (!it->is_string()) return false;
    text = it->get<std::string>();
    return true;
  };
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Json& item = json["choices"][i];
    Delta& choice = choices_[i];
    if (!item.is_object() || !take(item, "text", choice.text) ||
        !take(item, "reasoning", choice.reasoning))
      return "a choice must be an object with texts";
    const auto calls = item.find("tool_calls");
    const size_t count = calls == item.end() || !calls->is_array() ? 0 : calls->size();
    if (count != choice.calls.size()) return "a choice must have the calls that it had";
    for (size_t k = 0; k < count; ++k) {
      if (!(*calls)[k].is_object() || !take((*calls)[k], "arguments", choice.calls[k].arguments))
        return "a call must have arguments as text";
    }
  }
  return "";
}

}  // namespace penstock
