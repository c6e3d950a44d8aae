#include "text/reply/argument_kind.h"

#include <nlohmann/json.hpp>
#include <string_view>

namespace penstock {
namespace {

using SchemaJson = nlohmann::ordered_json;

constexpr int kMostReferences = 16;  // of one to another
constexpr int kMostParts = 32;       // of anyOf within anyOf, which may refer to each other

struct SaidKinds {
  bool text = false, null = false, other = false;
  int parts = 0;
};

void AddType(const SchemaJson& type, SaidKinds& kinds) {
  (type == "string" ? kinds.text : type == "null" ? kinds.null : kinds.other) = true;
}

void AddKinds(const SchemaJson& schema, const SchemaJson& root, SaidKinds& kinds) {
  if (kinds.other) return;
  const SchemaJson& said = SchemaReferredTo(schema, root);
  if (!said.is_object() || ++kinds.parts > kMostParts) {
    kinds.other = true;
    return;
  }
  const auto member = [&said](const char* name) {
    const auto found = said.find(name);
    return found == said.end() ? nullptr : &*found;
  };
  if (const SchemaJson* type = member("type")) {
    if (!type->is_array()) return AddType(*type, kinds);
    for (const SchemaJson& one : *type) AddType(one, kinds);
  } else if (const SchemaJson* words = member("enum"); words != nullptr && words->is_array()) {
    for (const SchemaJson& word : *words)
      (word.is_string() ? kinds.text : word.is_null() ? kinds.null : kinds.other) = true;
  } else if (const SchemaJson* word = member("const")) {
    (word->is_string() ? kinds.text : word->is_null() ? kinds.null : kinds.other) = true;
  } else {
    const SchemaJson* options = member("anyOf");
    if (options == nullptr || !options->is_array() || options->empty()) {
      kinds.other = true;
      return;
    }
    for (const SchemaJson& option : *options) AddKinds(option, root, kinds);
  }
}

}  // namespace

const SchemaJson& SchemaReferredTo(const SchemaJson& schema, const SchemaJson& root) {
  const SchemaJson* at = &schema;
  for (int i = 0; i < kMostReferences && at->is_object(); ++i) {
    const auto reference = at->find("$ref");
    if (reference == at->end() || !reference->is_string()) break;
    bool alone = true;  // but for what says nothing of a value
    for (const auto& [name, value] : at->items())
      alone = alone &&
              (name == "$ref" || name == "description" || name == "title" || name == "default");
    if (!alone) break;
    const std::string_view path = reference->get_ref<const std::string&>();
    const SchemaJson* found = nullptr;
    for (const char* definitions : {"$defs", "definitions"}) {
      const std::string prefix = std::string("#/") + definitions + "/";
      if (!path.starts_with(prefix) || !root.is_object() || !root.contains(definitions)) continue;
      const SchemaJson& all = root[definitions];
      const auto named = all.find(std::string(path.substr(prefix.size())));
      if (named != all.end()) found = &*named;
    }
    if (found == nullptr) break;
    at = found;
  }
  return *at;
}

ArgumentKind KindOfArgument(const SchemaJson& schema, const SchemaJson& root) {
  SaidKinds kinds;
  AddKinds(schema, root, kinds);
  if (!kinds.text || kinds.other) return ArgumentKind::kJson;
  return kinds.null ? ArgumentKind::kTextOrNull : ArgumentKind::kText;
}

}  // namespace penstock
