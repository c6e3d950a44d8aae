// SchemaCompiler: whether a value can fulfil conditions at all, as far as a look of some depth tells.

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "text/grammar/schema_compiler.h"

namespace penstock::grammar {

using Is = Condition::Is;

absl::StatusOr<bool> SchemaCompiler::MayHold(const Literals& literals, Kind kind, int depth) {
  ASSIGN_OR_RETURN(const int32_t formula, FormulaOf(literals, kind));
  if (formula == Formulas::kFalse) return false;
  if (formula == Formulas::kTrue) return true;
  if (kind == Kind::kString) {
    ASSIGN_OR_RETURN(const CharAutomaton texts, TextsOf(formula));
    return !texts.empty();
  }
  if (kind == Kind::kNumber) {
    ASSIGN_OR_RETURN(const CharAutomaton numbers, NumbersOf(formula));
    return !numbers.empty();
  }
  if (kind != Kind::kObject) return true;
  ASSIGN_OR_RETURN(const std::vector<Formulas::Conjunction> alternatives,
                   formulas_.Alternatives(formula));
  for (const Formulas::Conjunction& conditions : alternatives) {
    ASSIGN_OR_RETURN(const bool may, ObjectMayHold(conditions, depth));
    if (may) return true;
  }
  return false;
}

absl::StatusOr<bool> SchemaCompiler::MayHoldAtAll(const Literals& literals, int depth) {
  if (literals == Literals{kImpossible}) return false;
  if (depth == 0) return true;
  for (const Kind kind : kKinds) {
    ASSIGN_OR_RETURN(const bool may, MayHold(literals, kind, depth));
    if (may) return true;
  }
  return false;
}

absl::StatusOr<bool> SchemaCompiler::ObjectMayHold(const Formulas::Conjunction& conditions,
                                                   int depth) {
  int64_t min = 0, max = -1;
  for (const Condition* c : conditions) {
    if (c->is != Is::kNumMembers) continue;
    min = std::max(min, c->min);
    if (c->max >= 0) max = max < 0 ? c->max : std::min(max, c->max);
  }
  if (max >= 0 && max < min) return false;
  for (const Condition* c : conditions) {
    if (c->is != Is::kHas) continue;
    Literals value;
    for (const Condition* other : conditions) {
      if (other->is == Is::kLacks && other->text == c->text) return false;
      if (other->is == Is::kMember && other->text == c->text) value.push_back(other->literal);
      if (other->is != Is::kMembers) continue;
      ASSIGN_OR_RETURN(const bool inside, InDomain(*other->domain, c->text, other->node));
      if (inside) value.push_back(other->literal);
    }
    ASSIGN_OR_RETURN(const bool may, MayHoldAtAll(Normal(std::move(value)), depth - 1));
    if (!may) return false;
  }
  return true;
}

}  // namespace penstock::grammar
