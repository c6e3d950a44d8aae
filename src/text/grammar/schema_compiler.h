// Turns sets of literals over a schema's nodes into rules of a grammar.
// Owns the builder and the rules made so far. Must not know tokens.
// Threads: confined to one thread.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "text/grammar/char_automaton.h"
#include "text/grammar/grammar.h"
#include "text/grammar/schema_formula.h"

namespace penstock::grammar {

/// Conditions that all hold, sorted.
using Literals = std::vector<Literal>;

class SchemaCompiler {
 public:
  using Expr = GrammarBuilder::Expr;

  SchemaCompiler(SchemaDocument* document, SchemaOptions options);
  absl::StatusOr<Grammar> Compile();
  GrammarBuilder& builder() { return builder_; }
  /// Any JSON value, object or array.
  Expr AnyValue();
  Expr AnyObject();

 private:
  friend class ObjectShape;
  friend class ArrayShape;

  /// The expression of the values for which all of `literals` hold; its rule is made later.
  Expr ValueOf(Literals literals);
  absl::StatusOr<Expr> MakeValue(const Literals& literals);
  absl::StatusOr<Expr> MakeText(int32_t formula);
  /// Whether it says of texts that they are names of hosts, or that they are not.
  bool NamesHosts(int32_t formula) const;
  absl::StatusOr<Expr> MakeHostNames(int32_t formula);
  absl::StatusOr<Expr> MakeTextOf(const Formulas::Conjunction& conditions);
  absl::StatusOr<Expr> MakeNumber(int32_t formula);
  absl::StatusOr<Expr> MakeObject(const Literals& literals, int32_t formula);
  absl::StatusOr<Expr> MakeArray(int32_t formula);
  absl::StatusOr<int32_t> FormulaOf(const Literals& literals, Kind kind);

  /// The strings, or numbers, of a formula.
  absl::StatusOr<CharAutomaton> TextsOf(int32_t formula);
  absl::StatusOr<CharAutomaton> NumbersOf(int32_t formula);
  absl::StatusOr<CharAutomaton> TextsOfCondition(const Condition& condition);
  absl::StatusOr<CharAutomaton> NumbersOfCondition(const Condition& condition);
  absl::StatusOr<const CharAutomaton*> PatternOf(const std::string& pattern, int32_t node,
                                                 std::string_view keyword);
  /// The keys of a domain.
  absl::StatusOr<CharAutomaton> KeysOf(const KeyDomain& domain, int32_t node);
  absl::StatusOr<bool> InDomain(const KeyDomain& domain, const std::string& name, int32_t node);

  /// Whether literals can hold at once of one kind; true where that is not seen at `depth` levels.
  absl::StatusOr<bool> MayHold(const Literals& literals, Kind kind, int depth);
  absl::StatusOr<bool> MayHoldAtAll(const Literals& literals, int depth);
  absl::StatusOr<bool> ObjectMayHold(const Formulas::Conjunction& conditions, int depth);

  Expr Text(std::string_view literal) { return builder_.Literal(literal); }
  Expr Blank() const { return blank_; }
  /// A member's name in quotes and the colon.
  Expr Key(const std::string& name);
  std::string PathOf(const Literals& literals) const;
  /// A node of the document that a formula speaks of.
  int32_t NodeOf(int32_t formula) const;
  absl::Status Impossible(const Literals& literals);
  absl::Status At(int32_t node, const absl::Status& status) const;

  SchemaDocument& document_;
  Formulas formulas_;
  GrammarBuilder builder_;
  Expr blank_;
  std::map<Literals, GrammarBuilder::Rule> rules_;
  std::vector<std::pair<Literals, GrammarBuilder::Rule>> pending_;
  std::map<std::string, CharAutomaton> patterns_;
  std::map<Literals, std::vector<Literals>> needed_;  // of an object: what its members must fulfil
  int meeting_ = 0;  // questions whether literals meet that are being answered
  GrammarBuilder::Rule any_value_ = -1, any_object_ = -1;
};

/// The sorted set of `literals` without what says nothing.
Literals Normal(Literals literals);

}  // namespace penstock::grammar
