// Numbers of JSON as regular languages: bounds, whole numbers, multiples.
// Owns nothing. Must not know schemas.
// Threads: n/a; pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "text/grammar/char_automaton.h"

namespace penstock::grammar {

/// A number as it is written: (-1)^negative * whole.fraction.
struct Decimal {
  bool negative = false;  // never of zero
  std::string whole;      // digits without leading zeros; "0" of less than one
  std::string fraction;   // digits without zeros at the end
  bool zero() const { return whole == "0" && fraction.empty(); }
};

/// Of a JSON number; nothing where it has more digits than an automaton should count.
std::optional<Decimal> ParseDecimal(std::string_view text);
/// <0, 0, >0.
int Compare(const Decimal& a, const Decimal& b);

/// What a number must lie strictly beyond for its double to lie strictly above (below) `bound`, a
/// JSON number: most who check a bound do so after rounding. `bound` itself where it is 0, or whole
/// and of so many digits that those who have whole numbers do not round.
std::string BeyondRounding(const std::string& bound, bool above);

/// All numbers, exponents included.
const CharAutomaton& AnyNumber();
/// Numbers without exponent: what the languages below are parts of.
const CharAutomaton& PlainNumbers();
/// Whole numbers as they are usually written, and all ways to write them: 5.0 as well.
const CharAutomaton& WholeNumbers();
const CharAutomaton& WholeValues();
CharAutomaton NumbersAbove(const Decimal& x, bool or_equal);
CharAutomaton NumbersBelow(const Decimal& x, bool or_equal);
CharAutomaton NumbersEqual(const Decimal& x);
/// RESOURCE_EXHAUSTED where the divisor is beyond 5000, not counting zeros at its end.
absl::StatusOr<CharAutomaton> MultiplesOf(const Decimal& divisor);

}  // namespace penstock::grammar
