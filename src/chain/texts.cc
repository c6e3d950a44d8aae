#include "chain/texts.h"

#include <nlohmann/json.hpp>
#include <type_traits>

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using SharedJson = std::shared_ptr<const Json>;

/// Members that name things and are no texts of their own.
bool IsLabel(std::string_view key) {
  return key == "role" || key == "type" || key == "id" || key == "tool_call_id";
}

/// Keys that the API gives and no client.
bool IsStructure(std::string_view key) {
  for (const std::string_view known : {"content", "tool_calls", "function", "name", "arguments",
                                       "text", "description", "parameters", "properties"}) {
    if (key == known) return true;
  }
  return IsLabel(key);
}

/// Every string of `node` but labels. Other keys are shown too: a schema's property names reach the
/// model.
template <class Node, class Fn>
bool EachString(Node& node, std::string_view role, bool labels, Fn& fn) {
  if (node.is_string()) {
    if constexpr (std::is_const_v<Node>) {
      return fn(role, std::string_view(node.template get_ref<const std::string&>()));
    } else {
      return fn(role, node.template get_ref<std::string&>());
    }
  }
  if (node.is_array()) {
    for (auto& item : node) {
      if (!EachString(item, role, false, fn)) return false;
    }
  }
  if (node.is_object()) {
    for (auto it = node.begin(); it != node.end(); ++it) {
      if (labels && IsLabel(it.key()) && it.value().is_string()) continue;
      if constexpr (std::is_const_v<Node>) {
        if (!IsStructure(it.key()) && !fn(role, std::string_view(it.key()))) return false;
      }
      if (!EachString(it.value(), role, labels, fn)) return false;
    }
  }
  return true;
}

template <class Node, class Fn>
bool EachMessage(Node& messages, Fn& fn) {
  for (auto& message : messages) {
    std::string role = "message";
    if (message.is_object() && message.contains("role") && message["role"].is_string())
      role = message["role"].template get<std::string>();
    if (!EachString(message, role, true, fn)) return false;
  }
  return true;
}

}  // namespace

bool VisitTexts(const GenerationCall& call, const ServedModel* model,
                absl::FunctionRef<bool(std::string_view, std::string_view)> look) {
  for (const PromptInput& prompt : call.prompts) {
    if (!prompt.is_ids) {
      if (!look("prompt", prompt.text)) return false;
      continue;
    }
    if (model == nullptr || model->tokenizer == nullptr) return false;
    for (TokenId id : prompt.ids) {
      if (id < 0 || id >= model->vocab_size) return true;  // is refused later by its range
    }
    if (!look("prompt", model->tokenizer->Decode(prompt.ids, false))) return false;
  }
  if (call.messages && !EachMessage(*call.messages, look)) return false;
  if (call.tools && !EachString(*call.tools, "tool", true, look)) return false;
  if (call.documents && !EachString(*call.documents, "document", false, look)) return false;
  if (call.template_arguments && !EachString(*call.template_arguments, "template", false, look))
    return false;
  return !call.chat_template || look("template", *call.chat_template);
}

bool EditTexts(GenerationCall& call, const ServedModel* model,
               absl::FunctionRef<bool(std::string_view, std::string&)> edit) {
  for (PromptInput& prompt : call.prompts) {
    if (!prompt.is_ids) {
      if (!edit("prompt", prompt.text)) return false;
      continue;
    }
    if (model == nullptr || model->tokenizer == nullptr) return false;
    for (TokenId id : prompt.ids) {
      if (id < 0 || id >= model->vocab_size) return true;
    }
    const std::string before = model->tokenizer->Decode(prompt.ids, false);
    std::string text = before;
    if (!edit("prompt", text)) return false;
    if (text != before) prompt = {std::move(text), {}, false};
  }
  const auto changed = [&](SharedJson& shared, auto&& each) {
    if (!shared) return true;
    auto copy = std::make_shared<Json>(*shared);
    if (!each(*copy)) return false;
    if (*copy != *shared) shared = std::move(copy);
    return true;
  };
  if (!changed(call.messages, [&](Json& node) { return EachMessage(node, edit); })) return false;
  if (!changed(call.tools, [&](Json& node) { return EachString(node, "tool", true, edit); }))
    return false;
  if (!changed(call.documents,
               [&](Json& node) { return EachString(node, "document", false, edit); }))
    return false;
  if (!changed(call.template_arguments,
               [&](Json& node) { return EachString(node, "template", false, edit); }))
    return false;
  return !call.chat_template || edit("template", *call.chat_template);
}

}  // namespace penstock
