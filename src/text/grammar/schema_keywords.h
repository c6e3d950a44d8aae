// Reads the keywords of one schema for instances of one kind.
// Owns nothing. Must not know grammars.
// Threads: confined to one thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/schema_formula.h"

namespace penstock::grammar {

class KeywordReader {
 public:
  KeywordReader(Formulas* formulas, Literal literal, Kind kind)
      : formulas_(*formulas),
        document_(formulas->document()),
        id_(literal.node),
        schema_(*document_.node(literal.node).json),
        negated_(literal.negated),
        kind_(kind) {}

  absl::StatusOr<int32_t> Read();

 private:
  using Json = nlohmann::ordered_json;

  const Json* Find(const char* keyword) const;
  absl::Status Wrong(std::string_view keyword, std::string_view expected) const;
  absl::StatusOr<int64_t> Count(const char* keyword, const Json& value) const;
  Literal Child(const Json& json, std::string_view steps) {
    if (json.is_boolean()) return json.get<bool>() ? kAnything : kImpossible;
    return {document_.Child(id_, json, steps), false};
  }
  /// `literal` as it counts here: negated with the whole.
  Literal Signed(Literal literal) const { return negated_ ? !literal : literal; }
  /// All parts, or, negated, any of their negations.
  int32_t All(std::vector<int32_t> parts) {
    return negated_ ? formulas_.Or(std::move(parts)) : formulas_.And(std::move(parts));
  }
  int32_t Any(std::vector<int32_t> parts) {
    return negated_ ? formulas_.And(std::move(parts)) : formulas_.Or(std::move(parts));
  }
  int32_t Decided(bool yes) const { return yes != negated_ ? Formulas::kTrue : Formulas::kFalse; }
  Condition New(Condition::Is is) const;
  /// min to max of something, or, negated, fewer or more.
  int32_t Between(Condition::Is is, int64_t min, int64_t max);
  /// What is left out where that is allowed.
  absl::StatusOr<int32_t> Refuse(std::string_view keyword, std::string_view why);

  absl::StatusOr<int32_t> Of(Literal literal) { return formulas_.Of(literal, kind_); }
  absl::Status ReadReference();
  absl::Status ReadType();
  absl::Status ReadValues();
  absl::Status ReadApplicators();
  absl::StatusOr<int32_t> OneOf(const Json& list);
  absl::Status ReadNumber();
  absl::Status ReadString();
  absl::Status ReadArray();
  absl::Status ReadItems();
  absl::Status ReadContains();
  absl::Status ReadObject();
  absl::Status ReadMembers();
  absl::Status ReadDependencies();
  absl::Status ReadUnevaluated();
  /// What applicators in place that always hold evaluate; false where that depends on the instance.
  bool CollectEvaluated(int32_t node, KeyDomain& names, int64_t& num_items, bool& all_members,
                        bool& all_items, int depth);
  void AddMembers(const char* keyword, std::shared_ptr<const KeyDomain> domain, Literal literal);

  Formulas& formulas_;
  SchemaDocument& document_;
  const int32_t id_;
  const Json& schema_;
  const bool negated_;
  const Kind kind_;
  std::vector<int32_t> parts_;
};

}  // namespace penstock::grammar
