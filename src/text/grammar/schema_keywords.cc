#include "text/grammar/schema_keywords.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/grammar/formats.h"
#include "text/grammar/number_language.h"

namespace penstock::grammar {

using Is = Condition::Is;

const KeywordReader::Json* KeywordReader::Find(const char* keyword) const {
  return document_.Find(schema_, keyword);
}

absl::Status KeywordReader::Wrong(std::string_view keyword, std::string_view expected) const {
  return absl::InvalidArgumentError(absl::StrCat("#", document_.node(id_).path, "/",
                                                 ToAbsl(keyword), " must be ", ToAbsl(expected)));
}

absl::StatusOr<int64_t> KeywordReader::Count(const char* keyword, const Json& value) const {
  const double number = value.is_number() ? value.get<double>() : -1;
  if (!(number >= 0) || std::floor(number) != number)
    return Wrong(keyword, "a whole number that is not negative");
  return static_cast<int64_t>(std::min(number, 1e9));
}

Condition KeywordReader::New(Condition::Is is) const {
  Condition c;
  c.is = is;
  c.node = id_;
  return c;
}

int32_t KeywordReader::Between(Condition::Is is, int64_t min, int64_t max) {
  Condition c = New(is);
  c.min = min;
  c.max = max;
  if (is == Condition::Is::kNumMembers) c.text = negated_ ? "maxProperties" : "minProperties";
  if (!negated_) return min <= 0 && max < 0 ? Formulas::kTrue : formulas_.Leaf(std::move(c));
  std::vector<int32_t> outside;
  if (min > 0) {
    c.min = 0;
    c.max = min - 1;
    outside.push_back(formulas_.Leaf(c));
  }
  if (max >= 0) {
    c.min = max + 1;
    c.max = -1;
    outside.push_back(formulas_.Leaf(c));
  }
  return formulas_.Or(std::move(outside));
}

absl::StatusOr<int32_t> KeywordReader::Refuse(std::string_view keyword, std::string_view why) {
  RETURN_IF_ERROR(formulas_.Refuse(id_, keyword, why));
  return Decided(true);
}

absl::StatusOr<int32_t> KeywordReader::Read() {
  const bool only_reference = document_.draft() <= Draft::k7 && Find("$ref") != nullptr;
  RETURN_IF_ERROR(ReadReference());
  if (only_reference) return All(std::move(parts_));
  RETURN_IF_ERROR(ReadType());
  // A kind that the type rules out needs no further word.
  if (!parts_.empty() && parts_.back() == Decided(false)) return parts_.back();
  RETURN_IF_ERROR(ReadValues());
  switch (kind_) {
    case Kind::kNumber:
      RETURN_IF_ERROR(ReadNumber());
      break;
    case Kind::kString:
      RETURN_IF_ERROR(ReadString());
      break;
    case Kind::kArray:
      RETURN_IF_ERROR(ReadArray());
      break;
    case Kind::kObject:
      RETURN_IF_ERROR(ReadObject());
      break;
    default:
      break;
  }
  RETURN_IF_ERROR(ReadApplicators());
  return All(std::move(parts_));
}

absl::Status KeywordReader::ReadReference() {
  for (const char* keyword : {"$ref", "$recursiveRef", "$dynamicRef"}) {
    const Json* value = Find(keyword);
    if (value == nullptr) continue;
    if (!value->is_string()) return Wrong(keyword, "a string");
    const std::string& reference = value->get_ref<const std::string&>();
    ASSIGN_OR_RETURN(const int32_t to, document_.Resolve(id_, reference));
    if (document_.IsOverridable(keyword, reference, to)) {
      ASSIGN_OR_RETURN(const int32_t any,
                       Refuse(keyword,
                              "several schemas have the anchor that it names, and which of "
                              "them it means depends on the way to it"));
      parts_.push_back(any);
      continue;
    }
    ASSIGN_OR_RETURN(const int32_t part, Of(Signed({to, false})));
    parts_.push_back(part);
  }
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadType() {
  const Json* type = Find("type");
  if (type == nullptr) return absl::OkStatus();
  const Json list = type->is_array() ? *type : Json::array({*type});
  bool here = false, only_whole = false;
  for (const Json& name : list) {
    if (!name.is_string()) return Wrong("type", "a string or an array of strings");
    const std::string& text = name.get_ref<const std::string&>();
    if (text == "integer" || text == "number") {
      if (kind_ != Kind::kNumber) continue;
      only_whole = text == "integer" && (!here || only_whole);
      here = true;
    } else if (text == "boolean") {
      here |= kind_ == Kind::kTrue || kind_ == Kind::kFalse;
    } else if (text == "null") {
      here |= kind_ == Kind::kNull;
    } else if (text == "string") {
      here |= kind_ == Kind::kString;
    } else if (text == "array") {
      here |= kind_ == Kind::kArray;
    } else if (text == "object") {
      here |= kind_ == Kind::kObject;
    } else if (text == "any") {  // of drafts before 4, and still written
      here = true;
    } else {
      return Wrong("type", absl::StrCat("a type of JSON, got \"", text.substr(0, 40), "\""));
    }
  }
  if (!here || !only_whole) {
    parts_.push_back(Decided(here));
    return absl::OkStatus();
  }
  Condition c = New(Is::kWhole);
  c.negated = negated_;
  parts_.push_back(formulas_.Leaf(std::move(c)));
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadValues() {
  if (const Json* list = Find("enum")) {
    if (!list->is_array()) return Wrong("enum", "an array");
    if (list->empty()) return Wrong("enum", "an array of at least one value");
    std::vector<int32_t> options;
    for (size_t i = 0; i < list->size(); ++i) {
      const Literal one{document_.Value(id_, (*list)[i], absl::StrCat("enum/", i)), negated_};
      ASSIGN_OR_RETURN(const int32_t part, Of(one));
      options.push_back(part);
    }
    parts_.push_back(Any(std::move(options)));
  }
  if (const Json* value = Find("const")) {
    ASSIGN_OR_RETURN(const int32_t part, Of({document_.Value(id_, *value, "const"), negated_}));
    parts_.push_back(part);
  }
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadApplicators() {
  for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
    const Json* list = Find(keyword);
    if (list == nullptr) continue;
    if (!list->is_array() || list->empty())
      return Wrong(keyword, "an array of at least one schema");
    if (std::string_view(keyword) == "oneOf") {
      ASSIGN_OR_RETURN(const int32_t part, OneOf(*list));
      parts_.push_back(part);
      continue;
    }
    std::vector<int32_t> options;
    for (size_t i = 0; i < list->size(); ++i) {
      ASSIGN_OR_RETURN(const int32_t part,
                       Of(Signed(Child((*list)[i], absl::StrCat(keyword, "/", i)))));
      options.push_back(part);
    }
    parts_.push_back(std::string_view(keyword) == "allOf" ? All(std::move(options))
                                                          : Any(std::move(options)));
  }
  if (const Json* schema = Find("not")) {
    ASSIGN_OR_RETURN(const int32_t part, Of(Signed(!Child(*schema, "not"))));
    parts_.push_back(part);
  }
  const Json* condition = Find("if");
  if (condition == nullptr) return absl::OkStatus();
  const Literal when = Child(*condition, "if");
  const Json* yes = Find("then");
  const Json* no = Find("else");
  if (yes == nullptr && no == nullptr) return absl::OkStatus();
  const auto branch = [&](Literal given, const Json* schema,
                          const char* name) -> absl::StatusOr<int32_t> {
    ASSIGN_OR_RETURN(const int32_t first, Of(given));
    if (schema == nullptr) return negated_ ? Formulas::kFalse : first;
    ASSIGN_OR_RETURN(const int32_t second, Of(Signed(Child(*schema, name))));
    return formulas_.And({first, second});
  };
  ASSIGN_OR_RETURN(const int32_t first, branch(when, yes, "then"));
  ASSIGN_OR_RETURN(const int32_t second, branch(!when, no, "else"));
  parts_.push_back(formulas_.Or({first, second}));
  return absl::OkStatus();
}

absl::StatusOr<int32_t> KeywordReader::OneOf(const Json& list) {
  std::vector<Literal> options;
  for (size_t i = 0; i < list.size(); ++i)
    options.push_back(Child(list[i], absl::StrCat("oneOf/", i)));
  std::vector<int32_t> yes(options.size()), no(options.size(), -1);
  for (size_t i = 0; i < options.size(); ++i) {
    ASSIGN_OR_RETURN(yes[i], Of(options[i]));
  }
  const auto negation = [&](size_t i) -> absl::StatusOr<int32_t> {
    if (no[i] < 0) {
      ASSIGN_OR_RETURN(no[i], Of(!options[i]));
    }
    return no[i];
  };
  std::vector<int32_t> alternatives;
  std::vector<int32_t> none, pairs;
  for (size_t i = 0; i < options.size(); ++i) {
    std::vector<int32_t> only{yes[i]};
    for (size_t j = 0; j < options.size(); ++j) {
      if (j == i || yes[j] == Formulas::kFalse || yes[i] == Formulas::kFalse) continue;
      ASSIGN_OR_RETURN(const bool meet, formulas_.Meet(options[i], options[j], kind_));
      if (!meet) continue;
      if (negated_) {
        if (j > i) pairs.push_back(formulas_.And({yes[i], yes[j]}));
        continue;
      }
      ASSIGN_OR_RETURN(const int32_t other, negation(j));
      only.push_back(other);
    }
    if (negated_) {
      ASSIGN_OR_RETURN(const int32_t other, negation(i));
      none.push_back(other);
    } else {
      alternatives.push_back(formulas_.And(std::move(only)));
    }
  }
  if (!negated_) return formulas_.Or(std::move(alternatives));
  pairs.push_back(formulas_.And(std::move(none)));
  return formulas_.Or(std::move(pairs));
}

absl::Status KeywordReader::ReadNumber() {
  const auto bound = [&](const char* keyword, Is is, bool or_equal) -> absl::Status {
    const Json* value = Find(keyword);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_number()) return Wrong(keyword, "a number");
    Condition c = New(is);
    c.text = value->dump();
    c.flag = or_equal;
    c.negated = negated_;
    if (!ParseDecimal(c.text)) return Wrong(keyword, "a number of at most 400 digits");
    if (or_equal == negated_) c.text = BeyondRounding(c.text, (is == Is::kAbove) != negated_);
    parts_.push_back(formulas_.Leaf(std::move(c)));
    return absl::OkStatus();
  };
  bool above = false, below = false;
  if (document_.draft() == Draft::k4) {  // there these say how the others are meant
    for (const auto& [keyword, excludes] :
         {std::pair("exclusiveMinimum", &above), std::pair("exclusiveMaximum", &below)}) {
      const Json* value = Find(keyword);
      if (value != nullptr && !value->is_boolean()) return Wrong(keyword, "a boolean in draft 4");
      *excludes = value != nullptr && value->get<bool>();
    }
  } else {
    RETURN_IF_ERROR(bound("exclusiveMinimum", Is::kAbove, false));
    RETURN_IF_ERROR(bound("exclusiveMaximum", Is::kBelow, false));
  }
  RETURN_IF_ERROR(bound("minimum", Is::kAbove, !above));
  RETURN_IF_ERROR(bound("maximum", Is::kBelow, !below));
  const Json* low = Find("minimum");
  const Json* high = Find("maximum");
  if (low != nullptr && high != nullptr && low->is_number() && high->is_number() &&
      Compare(*ParseDecimal(low->dump()), *ParseDecimal(high->dump())) > 0)
    return Wrong("minimum", "at most the maximum");
  if (const Json* value = Find("multipleOf")) {
    if (!value->is_number() || value->get<double>() <= 0)
      return Wrong("multipleOf", "a number above 0");
    Condition c = New(Is::kMultiple);
    c.text = value->dump();
    c.negated = negated_;
    const auto divisor = ParseDecimal(c.text);
    if (!divisor || !MultiplesOf(*divisor).ok()) {
      ASSIGN_OR_RETURN(const int32_t part,
                       Refuse("multipleOf", "is beyond 5000, not counting zeros at its end"));
      parts_.push_back(part);
    } else {
      parts_.push_back(formulas_.Leaf(std::move(c)));
    }
  }
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadString() {
  int64_t min = 0, max = -1;
  if (const Json* value = Find("minLength")) {
    ASSIGN_OR_RETURN(min, Count("minLength", *value));
  }
  if (const Json* value = Find("maxLength")) {
    ASSIGN_OR_RETURN(max, Count("maxLength", *value));
    if (max < min) return Wrong("minLength", "at most maxLength");
  }
  parts_.push_back(Between(Is::kLength, min, max));
  if (negated_ && parts_.back() == Formulas::kFalse) parts_.pop_back();
  if (const Json* value = Find("pattern")) {
    if (!value->is_string()) return Wrong("pattern", "a string");
    Condition c = New(Is::kPattern);
    c.text = value->get<std::string>();
    c.negated = negated_;
    parts_.push_back(formulas_.Leaf(std::move(c)));
  }
  if (const Json* value = Find("format")) {
    if (!value->is_string()) return Wrong("format", "a string");
    Condition c = New(Is::kFormat);
    c.text = value->get<std::string>();
    c.negated = negated_;
    if (FindFormat(c.text) != nullptr) {
      parts_.push_back(formulas_.Leaf(std::move(c)));
    } else if (IsOtherFormat(c.text)) {
      ASSIGN_OR_RETURN(const int32_t part,
                       Refuse("format", absl::StrCat("\"", c.text, "\" is not supported")));
      parts_.push_back(part);
    } else {
      formulas_.Loosen(id_, "format", RemarkOnFormat(c.text));
    }
  }
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadArray() {
  int64_t min = 0, max = -1;
  if (const Json* value = Find("minItems")) {
    ASSIGN_OR_RETURN(min, Count("minItems", *value));
  }
  if (const Json* value = Find("maxItems")) {
    ASSIGN_OR_RETURN(max, Count("maxItems", *value));
    if (max < min) return Wrong("minItems", "at most maxItems");
  }
  parts_.push_back(Between(Is::kNumItems, min, max));
  RETURN_IF_ERROR(ReadItems());
  RETURN_IF_ERROR(ReadContains());
  const Json* unique = Find("uniqueItems");
  if (unique != nullptr && *unique == true) {
    if (negated_) {
      ASSIGN_OR_RETURN(const int32_t part, Refuse("uniqueItems", "cannot be negated"));
      parts_.push_back(part);
    } else {
      parts_.push_back(formulas_.Leaf(New(Is::kUnique)));
    }
  }
  return ReadUnevaluated();
}

absl::Status KeywordReader::ReadItems() {
  const Json* items = Find("items");
  const Json* prefix = Find("prefixItems");
  const char* prefix_name = "prefixItems";
  const char* rest_name = "items";
  if (items != nullptr && items->is_array()) {
    if (document_.draft() == Draft::k2020)
      return Wrong("items", "a schema: in draft 2020-12 a list of them is prefixItems");
    prefix = items;
    prefix_name = "items";
    items = Find("additionalItems");
    rest_name = "additionalItems";
  }
  int64_t num_prefix = 0;
  if (prefix != nullptr) {
    if (!prefix->is_array()) return Wrong(prefix_name, "an array of schemas");
    num_prefix = static_cast<int64_t>(prefix->size());
    for (int64_t i = 0; i < num_prefix; ++i) {
      Condition c = New(negated_ ? Is::kHasItem : Is::kItem);
      c.min = i;
      c.literal =
          Signed(Child((*prefix)[static_cast<size_t>(i)], absl::StrCat(prefix_name, "/", i)));
      parts_.push_back(formulas_.Leaf(std::move(c)));
    }
  }
  if (items == nullptr) return absl::OkStatus();
  if (!items->is_object() && !items->is_boolean()) return Wrong(rest_name, "a schema");
  Condition c = New(negated_ ? Is::kCountFrom : Is::kItemsFrom);
  (negated_ ? c.first : c.min) = num_prefix;
  if (negated_) c.min = 1;
  c.literal = Signed(Child(*items, rest_name));
  parts_.push_back(formulas_.Leaf(std::move(c)));
  return absl::OkStatus();
}

absl::Status KeywordReader::ReadContains() {
  const Json* contains = Find("contains");
  if (contains == nullptr) return absl::OkStatus();
  int64_t min = 1, max = -1;
  if (const Json* value = Find("minContains")) {
    ASSIGN_OR_RETURN(min, Count("minContains", *value));
  }
  if (const Json* value = Find("maxContains")) {
    ASSIGN_OR_RETURN(max, Count("maxContains", *value));
  }
  const Literal literal = Child(*contains, "contains");
  const auto count = [&](int64_t low, int64_t high) {
    Condition c = New(Is::kCountFrom);
    c.literal = literal;
    c.min = low;
    c.max = high;
    return formulas_.Leaf(std::move(c));
  };
  if (!negated_) {
    if (min > 0 || max >= 0) parts_.push_back(count(min, max));
    return absl::OkStatus();
  }
  std::vector<int32_t> outside;
  if (min > 0) outside.push_back(count(0, min - 1));
  if (max >= 0) outside.push_back(count(max + 1, -1));
  parts_.push_back(formulas_.Or(std::move(outside)));
  return absl::OkStatus();
}

}  // namespace penstock::grammar
