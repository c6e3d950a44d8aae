#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/grammar/schema_keywords.h"

namespace penstock::grammar {

using Is = Condition::Is;

absl::Status KeywordReader::ReadObject() {
  RETURN_IF_ERROR(ReadMembers());
  if (const Json* required = Find("required")) {
    if (!required->is_array()) return Wrong("required", "an array of names");
    for (const Json& name : *required) {
      if (!name.is_string()) return Wrong("required", "an array of names");
      Condition c = New(negated_ ? Is::kLacks : Is::kHas);
      c.text = name.get<std::string>();
      parts_.push_back(formulas_.Leaf(std::move(c)));
    }
  }
  if (const Json* names = Find("propertyNames")) {
    // No member has a name that does not fulfil it.
    auto domain = std::make_shared<KeyDomain>();
    domain->names = !Child(*names, "propertyNames");
    AddMembers("propertyNames", std::move(domain), kImpossible);
  }
  int64_t min = 0, max = -1;
  if (const Json* value = Find("minProperties")) {
    ASSIGN_OR_RETURN(min, Count("minProperties", *value));
  }
  if (const Json* value = Find("maxProperties")) {
    ASSIGN_OR_RETURN(max, Count("maxProperties", *value));
    if (max < min) return Wrong("minProperties", "at most maxProperties");
  }
  parts_.push_back(Between(Is::kNumMembers, min, max));
  RETURN_IF_ERROR(ReadDependencies());
  return ReadUnevaluated();
}

void KeywordReader::AddMembers(const char* keyword, std::shared_ptr<const KeyDomain> domain,
                               Literal literal) {
  Condition c = New(negated_ ? Is::kHasMember : Is::kMembers);
  c.text = keyword;
  c.domain = std::move(domain);
  c.literal = Signed(literal);
  parts_.push_back(formulas_.Leaf(std::move(c)));
}

absl::Status KeywordReader::ReadMembers() {
  auto others = std::make_shared<KeyDomain>();
  if (const Json* properties = Find("properties")) {
    if (!properties->is_object()) return Wrong("properties", "an object of schemas");
    for (const auto& [name, schema] : properties->items()) {
      others->excluded_names.push_back(name);
      Condition c = New(Is::kMember);
      c.text = name;
      c.literal = Signed(Child(schema, absl::StrCat("properties/", name)));
      const int32_t fulfils = formulas_.Leaf(c);
      if (!negated_) {
        parts_.push_back(fulfils);
        continue;
      }
      c.is = Is::kHas;
      c.literal = {};
      parts_.push_back(formulas_.And({formulas_.Leaf(std::move(c)), fulfils}));
    }
  }
  if (const Json* patterns = Find("patternProperties")) {
    if (!patterns->is_object()) return Wrong("patternProperties", "an object of schemas");
    for (const auto& [pattern, schema] : patterns->items()) {
      others->excluded_patterns.push_back(pattern);
      auto domain = std::make_shared<KeyDomain>();
      domain->pattern = pattern;
      AddMembers("patternProperties", std::move(domain),
                 Child(schema, absl::StrCat("patternProperties/", pattern)));
    }
  }
  if (const Json* schema = Find("additionalProperties")) {
    if (!schema->is_object() && !schema->is_boolean())
      return Wrong("additionalProperties", "a schema");
    AddMembers("additionalProperties", std::move(others), Child(*schema, "additionalProperties"));
  }
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadDependencies() {
  for (const char* keyword : {"dependencies", "dependentRequired", "dependentSchemas"}) {
    const Json* map = Find(keyword);
    if (map == nullptr) continue;
    if (!map->is_object()) return Wrong(keyword, "an object");
    for (const auto& [name, then] : map->items()) {
      Condition c = New(Is::kHas);
      c.text = name;
      const int32_t has = formulas_.Leaf(c);
      c.is = Is::kLacks;
      const int32_t lacks = formulas_.Leaf(c);
      int32_t implied = Formulas::kTrue;
      if (then.is_array() || then.is_string()) {
        std::vector<int32_t> needed;
        for (const Json& other : then.is_array() ? then : Json::array({then})) {
          if (!other.is_string()) return Wrong(keyword, "an object of arrays of names");
          c.text = other.get<std::string>();
          c.is = negated_ ? Is::kLacks : Is::kHas;
          needed.push_back(formulas_.Leaf(c));
        }
        implied = All(std::move(needed));
      } else {
        ASSIGN_OR_RETURN(implied, Of(Signed(Child(then, absl::StrCat(keyword, "/", name)))));
      }
      parts_.push_back(negated_ ? formulas_.And({has, implied})
                                : formulas_.Or({lacks, formulas_.And({has, implied})}));
    }
  }
  return absl::OkStatus();
}

bool KeywordReader::CollectEvaluated(int32_t node, KeyDomain& names, int64_t& num_items,
                                     bool& all_members, bool& all_items, int depth) {
  const Json& schema = *document_.node(node).json;
  if (!schema.is_object() || depth > 30) return depth <= 30;
  const auto find = [&](const char* keyword) { return document_.Find(schema, keyword); };
  for (const char* keyword :
       {"anyOf", "oneOf", "if", "dependentSchemas", "$dynamicRef", "$recursiveRef"}) {
    if (find(keyword) != nullptr) return false;
  }
  if (const Json* properties = find("properties"); properties && properties->is_object()) {
    for (const auto& [name, value] : properties->items()) names.excluded_names.push_back(name);
  }
  if (const Json* patterns = find("patternProperties"); patterns && patterns->is_object()) {
    for (const auto& [name, value] : patterns->items()) names.excluded_patterns.push_back(name);
  }
  all_members |= find("additionalProperties") != nullptr;
  all_members |= depth > 0 && find("unevaluatedProperties") != nullptr;
  const Json* items = find("items");
  const Json* prefix = items != nullptr && items->is_array() ? items : find("prefixItems");
  if (prefix != nullptr) num_items = std::max(num_items, static_cast<int64_t>(prefix->size()));
  all_items |= items != nullptr && !items->is_array();
  all_items |= find("additionalItems") != nullptr && items != nullptr && items->is_array();
  all_items |= depth > 0 && find("unevaluatedItems") != nullptr;
  if (find("contains") != nullptr && document_.draft() == Draft::k2020) return false;
  const auto below = [&](int32_t to) {
    return CollectEvaluated(to, names, num_items, all_members, all_items, depth + 1);
  };
  if (const Json* list = find("allOf"); list && list->is_array()) {
    for (size_t i = 0; i < list->size(); ++i) {
      if (!below(document_.Child(node, (*list)[i], absl::StrCat("allOf/", i)))) return false;
    }
  }
  if (const Json* reference = find("$ref"); reference && reference->is_string()) {
    const auto to = document_.Resolve(node, reference->get_ref<const std::string&>());
    if (!to.ok() || !below(*to)) return false;
  }
  return true;
}

absl::Status KeywordReader::ReadUnevaluated() {
  const char* keyword = kind_ == Kind::kArray ? "unevaluatedItems" : "unevaluatedProperties";
  const Json* schema = Find(keyword);
  if (schema == nullptr || *schema == true) return absl::OkStatus();
  auto names = std::make_shared<KeyDomain>();
  int64_t num_items = 0;
  bool all_members = false, all_items = false;
  if (!CollectEvaluated(id_, *names, num_items, all_members, all_items, 0)) {
    ASSIGN_OR_RETURN(const int32_t part,
                     Refuse(keyword, "depends on which of several schemas hold"));
    parts_.push_back(part);
    return absl::OkStatus();
  }
  if (kind_ == Kind::kObject) {
    if (!all_members) AddMembers(keyword, std::move(names), Child(*schema, keyword));
    return absl::OkStatus();
  }
  if (all_items) return absl::OkStatus();
  Condition c = New(negated_ ? Is::kCountFrom : Is::kItemsFrom);
  (negated_ ? c.first : c.min) = num_items;
  if (negated_) c.min = 1;
  c.literal = Signed(Child(*schema, keyword));
  parts_.push_back(formulas_.Leaf(std::move(c)));
  return absl::OkStatus();
}

}  // namespace penstock::grammar
