#include "text/grammar/schema_formula.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/grammar/schema_keywords.h"

namespace penstock::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxFormulaNodes = 400'000;
constexpr size_t kMaxAlternatives = 1024;

}  // namespace

Formulas::Formulas(SchemaDocument* document, SchemaOptions options)
    : document_(document), options_(options) {
  Add(Form::kTrue, {}, {});
  Add(Form::kFalse, {}, {});
}

int32_t Formulas::Add(Form form, Condition condition, std::vector<int32_t> parts) {
  nodes_.push_back(std::make_unique<Node>(Node{form, std::move(condition), std::move(parts)}));
  return static_cast<int32_t>(nodes_.size()) - 1;
}

int32_t Formulas::Join(Form form, std::vector<int32_t> parts) {
  const int32_t neutral = form == Form::kAnd ? kTrue : kFalse;
  const int32_t final = form == Form::kAnd ? kFalse : kTrue;
  std::erase(parts, neutral);
  if (parts.empty()) return neutral;
  if (std::find(parts.begin(), parts.end(), final) != parts.end()) return final;
  return parts.size() == 1 ? parts[0] : Add(form, {}, std::move(parts));
}

std::string Formulas::About(int32_t node, std::string_view keyword, std::string_view why) const {
  return absl::StrCat("#", document_->node(node).path, "/", ToAbsl(keyword), ": ", ToAbsl(why));
}

absl::Status Formulas::Refuse(int32_t node, std::string_view keyword, std::string_view why) {
  if (options_.strict) return absl::InvalidArgumentError(About(node, keyword, why));
  Loosen(node, keyword, why);
  return absl::OkStatus();
}

void Formulas::Loosen(int32_t node, std::string_view keyword, std::string_view why) {
  std::vector<std::string>* loosened = options_.loosened;
  if (loosened == nullptr) return;
  std::string what = About(node, keyword, why);
  if (std::find(loosened->begin(), loosened->end(), what) == loosened->end())
    loosened->push_back(std::move(what));
}

absl::Status Formulas::CheckTime() const {
  if (nodes_.size() > kMaxFormulaNodes || time_.over()) {
    const std::string at =
        active_.empty() ? "" : document_->node(std::max(0, active_.back().first.node)).path;
    return absl::ResourceExhaustedError(
        absl::StrCat("#", at, ": the schema is too complex to compile"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> Formulas::Of(Literal literal, Kind kind) {
  if (literal.node < 0) return literal.negated ? kFalse : kTrue;
  RETURN_IF_ERROR(CheckTime());
  const std::pair<Literal, Kind> self{literal, kind};
  if (std::find(active_.begin(), active_.end(), self) != active_.end())
    return absl::InvalidArgumentError(absl::StrCat("#", document_->node(literal.node).path,
                                                   ": the schema refers to itself without end"));
  if (active_.size() > 400)
    return absl::InvalidArgumentError(
        absl::StrCat("#", document_->node(literal.node).path, ": references are nested too deep"));
  active_.push_back(self);
  absl::StatusOr<int32_t> out =
      document_->node(literal.node).is_value ? OfValue(literal, kind) : OfSchema(literal, kind);
  active_.pop_back();
  return out;
}

absl::StatusOr<bool> Formulas::Meet(Literal a, Literal b, Kind kind) {
  const std::vector<std::pair<Literal, Kind>> outer = std::exchange(active_, {});
  absl::StatusOr<bool> out = may_meet_(a, b, kind);
  active_ = outer;
  return out;
}

absl::StatusOr<int32_t> Formulas::OfValue(Literal literal, Kind kind) {
  const Json& value = *document_->node(literal.node).json;
  const bool negated = literal.negated;
  const int32_t yes = negated ? kFalse : kTrue;
  const int32_t no = negated ? kTrue : kFalse;
  Condition c;
  c.node = literal.node;
  const auto leaf = [&](Condition::Is is, std::string text) {
    c.is = is;
    c.negated = negated;
    c.text = std::move(text);
    return Leaf(c);
  };
  const auto child = [&](const Json& json, std::string_view steps) {
    return Literal{document_->Value(literal.node, json, steps), negated};
  };
  switch (kind) {
    case Kind::kNull:
      return value.is_null() ? yes : no;
    case Kind::kFalse:
      return value == false ? yes : no;
    case Kind::kTrue:
      return value == true ? yes : no;
    case Kind::kNumber:
      return value.is_number() ? leaf(Condition::Is::kEqual, value.dump()) : no;
    case Kind::kString:
      return value.is_string() ? leaf(Condition::Is::kWord, value.get<std::string>()) : no;
    case Kind::kArray: {
      if (!value.is_array()) return no;
      const auto size = static_cast<int64_t>(value.size());
      std::vector<int32_t> parts;
      const auto count = [&](int64_t min, int64_t max) {
        c.is = Condition::Is::kNumItems;
        c.min = min;
        c.max = max;
        parts.push_back(Leaf(c));
      };
      if (!negated) count(size, size);
      if (negated && size > 0) count(0, size - 1);
      if (negated) count(size + 1, -1);
      c.is = negated ? Condition::Is::kHasItem : Condition::Is::kItem;
      for (int64_t i = 0; i < size; ++i) {
        c.min = i;
        c.literal = child(value[static_cast<size_t>(i)], absl::StrCat(i));
        parts.push_back(Leaf(c));
      }
      return negated ? Or(std::move(parts)) : And(std::move(parts));
    }
    case Kind::kObject: {
      if (!value.is_object()) return no;
      std::vector<int32_t> parts;
      auto others = std::make_shared<KeyDomain>();
      for (const auto& [key, member] : value.items()) {
        others->excluded_names.push_back(key);
        c.text = key;
        c.is = Condition::Is::kMember;
        c.literal = child(member, key);
        const int32_t is = Leaf(c);
        c.is = Condition::Is::kHas;
        const int32_t has = Leaf(c);
        c.is = Condition::Is::kLacks;
        if (negated) parts.push_back(Leaf(c));
        parts.push_back(And({has, is}));
      }
      c.domain = std::move(others);
      c.text.clear();
      c.is = negated ? Condition::Is::kHasMember : Condition::Is::kMembers;
      c.literal = negated ? kAnything : kImpossible;
      parts.push_back(Leaf(c));
      return negated ? Or(std::move(parts)) : And(std::move(parts));
    }
  }
  return no;
}

absl::StatusOr<int32_t> Formulas::OfSchema(Literal literal, Kind kind) {
  const Json& schema = *document_->node(literal.node).json;
  if (schema.is_boolean()) return schema.get<bool>() != literal.negated ? kTrue : kFalse;
  if (!schema.is_object())
    return absl::InvalidArgumentError(absl::StrCat("#", document_->node(literal.node).path,
                                                   ": a schema must be an object or a boolean"));
  return KeywordReader(this, literal, kind).Read();
}

absl::StatusOr<std::vector<Formulas::Conjunction>> Formulas::Alternatives(int32_t formula) {
  RETURN_IF_ERROR(CheckTime());
  const Node& n = node(formula);
  std::vector<Conjunction> out;
  switch (n.form) {
    case Form::kTrue:
      out.emplace_back();
      break;
    case Form::kFalse:
      break;
    case Form::kCondition:
      out.push_back({&n.condition});
      break;
    case Form::kOr:
      for (const int32_t part : n.parts) {
        ASSIGN_OR_RETURN(std::vector<Conjunction> some, Alternatives(part));
        std::move(some.begin(), some.end(), std::back_inserter(out));
      }
      break;
    case Form::kAnd:
      out.emplace_back();
      for (const int32_t part : n.parts) {
        ASSIGN_OR_RETURN(const std::vector<Conjunction> some, Alternatives(part));
        std::vector<Conjunction> product;
        if (out.size() * some.size() > kMaxAlternatives) {
          const Node* at = &node(part);
          while (!at->parts.empty()) at = &node(at->parts[0]);
          return absl::ResourceExhaustedError(
              absl::StrCat("#", document_->node(at->condition.node).path,
                           ": the schema has too many alternatives at once"));
        }
        for (const Conjunction& a : out) {
          for (const Conjunction& b : some) {
            product.push_back(a);
            product.back().insert(product.back().end(), b.begin(), b.end());
          }
        }
        out = std::move(product);
      }
      break;
  }
  if (out.size() > kMaxAlternatives)
    return absl::ResourceExhaustedError("#: the schema has too many alternatives at once");
  return out;
}

void Formulas::CollectNames(Literal literal, std::vector<std::string>& names, int depth) {
  if (literal.node < 0 || depth > 20) return;
  const SchemaNode node = document_->node(literal.node);
  if (!node.json->is_object()) return;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (node.is_value) {
    for (const auto& [key, value] : node.json->items()) add(key);
    return;
  }
  const auto found = node.json->find("properties");
  if (found != node.json->end() && found->is_object()) {
    for (const auto& [key, value] : found->items()) add(key);
  }
  const auto below = [&](const Json& json, std::string_view keyword) {
    CollectNames({document_->Child(literal.node, json, keyword), false}, names, depth + 1);
  };
  const auto ref = node.json->find("$ref");
  if (ref != node.json->end() && ref->is_string()) {
    const auto to = document_->Resolve(literal.node, ref->get_ref<const std::string&>());
    if (to.ok()) CollectNames({*to, false}, names, depth + 1);
  }
  for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
    const auto list = node.json->find(keyword);
    if (list == node.json->end() || !list->is_array()) continue;
    for (const Json& json : *list) below(json, keyword);
  }
  for (const char* keyword : {"if", "then", "else", "not"}) {
    const auto one = node.json->find(keyword);
    if (one != node.json->end()) below(*one, keyword);
  }
  for (const char* keyword : {"dependentSchemas", "dependencies"}) {
    const auto map = node.json->find(keyword);
    if (map == node.json->end() || !map->is_object()) continue;
    for (const auto& [key, json] : map->items()) below(json, keyword);
  }
}

}  // namespace penstock::grammar
