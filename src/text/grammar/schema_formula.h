// What a schema says about instances of one kind, as a formula of simple conditions.
// Owns its nodes. Must not know grammars.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "text/grammar/compile_time.h"
#include "text/grammar/schema_document.h"

namespace penstock::grammar {

enum class Kind : uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };
inline constexpr Kind kKinds[] = {Kind::kNull,   Kind::kFalse, Kind::kTrue,  Kind::kNumber,
                                  Kind::kString, Kind::kArray, Kind::kObject};

/// That a node of the document holds, or that it does not. kAnything and its negation are of none.
struct Literal {
  int32_t node = -1;
  bool negated = false;
  Literal operator!() const { return {node, !negated}; }
  friend auto operator<=>(const Literal&, const Literal&) = default;
};
inline constexpr Literal kAnything{-1, false};
inline constexpr Literal kImpossible{-1, true};

/// Which keys of an object are meant: all that fulfil every condition that is there.
struct KeyDomain {
  std::optional<std::string> pattern;
  std::optional<Literal> names;  // the key, as a string, fulfils this
  std::vector<std::string> excluded_names, excluded_patterns;
};

struct Condition {
  enum class Is : uint8_t {
    kWhole,
    kAbove,
    kBelow,
    kMultiple,
    kEqual,  // numbers; `text` is one, `flag`: or equal
    kLength,
    kPattern,
    kFormat,
    kWord,       // strings
    kNumItems,   // min to max
    kItem,       // the item at `min`, where there is one, fulfils `literal`
    kItemsFrom,  // so do all from `min` on
    kHasItem,    // there is an item at `min`, and it fulfils `literal`
    kCountFrom,  // of the items from `first` on min to max fulfil `literal`
    kUnique,
    kHas,
    kLacks,       // the member called `text`
    kMember,      // the member called `text`, where there is one, fulfils `literal`
    kMembers,     // so do all members of `domain`; `text` is the keyword, or empty
    kHasMember,   // there is a member of `domain` that fulfils `literal`; `text` likewise
    kNumMembers,  // `text` is the keyword that `min` is of
  };
  Is is = Is::kWhole;
  bool negated = false;  // numbers and strings only
  bool flag = false;
  int64_t min = 0, max = -1;  // max < 0: no limit
  int64_t first = 0;
  std::string text;
  Literal literal;
  std::shared_ptr<const KeyDomain> domain;
  int32_t node = 0;  // of the document, for messages
};

struct SchemaOptions {
  bool strict = true;                            // refuse what cannot be kept; else leave it out
  std::vector<std::string>* loosened = nullptr;  // what was left out; may be null
};

/// Whether two literals can hold at once, of one kind; asked where only one of several may.
using MayMeet = std::function<absl::StatusOr<bool>(Literal, Literal, Kind)>;

class Formulas {
 public:
  static constexpr int32_t kTrue = 0, kFalse = 1;
  using Conjunction = std::vector<const Condition*>;

  Formulas(SchemaDocument* document, SchemaOptions options);
  void set_may_meet(MayMeet may_meet) { may_meet_ = std::move(may_meet); }

  /// The formula of `literal` for instances of one kind.
  absl::StatusOr<int32_t> Of(Literal literal, Kind kind);
  int32_t And(std::vector<int32_t> parts) { return Join(Form::kAnd, std::move(parts)); }
  int32_t Or(std::vector<int32_t> parts) { return Join(Form::kOr, std::move(parts)); }
  /// Whether both may hold of one instance; asked while another formula is being made.
  absl::StatusOr<bool> Meet(Literal a, Literal b, Kind kind);
  /// The formula's alternatives. RESOURCE_EXHAUSTED where there are too many.
  absl::StatusOr<std::vector<Conjunction>> Alternatives(int32_t formula);

  enum class Form : uint8_t { kTrue, kFalse, kCondition, kAnd, kOr };
  struct Node {
    Form form = Form::kTrue;
    Condition condition;
    std::vector<int32_t> parts;
  };
  const Node& node(int32_t formula) const { return *nodes_[formula]; }
  SchemaDocument& document() { return *document_; }

  /// The error of a keyword that cannot be kept; OK where that may be left out.
  absl::Status Refuse(int32_t node, std::string_view keyword, std::string_view why);
  /// Says that a keyword is left out.
  void Loosen(int32_t node, std::string_view keyword, std::string_view why);
  absl::Status CheckTime() const;
  /// A condition beside those of formulas, which lives as long.
  const Condition* Keep(Condition condition) { return &node(Leaf(std::move(condition))).condition; }
  /// Names in the order in which the schema lists them.
  void CollectNames(Literal literal, std::vector<std::string>& names, int depth);

 private:
  friend class KeywordReader;
  std::string About(int32_t node, std::string_view keyword, std::string_view why) const;
  int32_t Add(Form form, Condition condition, std::vector<int32_t> parts);
  int32_t Join(Form form, std::vector<int32_t> parts);
  int32_t Leaf(Condition condition) { return Add(Form::kCondition, std::move(condition), {}); }
  absl::StatusOr<int32_t> OfSchema(Literal literal, Kind kind);
  absl::StatusOr<int32_t> OfValue(Literal literal, Kind kind);

  SchemaDocument* document_;
  SchemaOptions options_;
  MayMeet may_meet_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::pair<Literal, Kind>> active_;  // to notice references that go in circles
  const CompileTime time_;
};

}  // namespace penstock::grammar
