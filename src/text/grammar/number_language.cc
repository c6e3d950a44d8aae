#include "text/grammar/number_language.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/grammar/pattern.h"

namespace penstock::grammar {
namespace {

constexpr size_t kMaxDigits = 400;
constexpr int64_t kMaxDivisor = 5000;

/// The classes of '-', '.', each digit and everything else.
constexpr int32_t kMinus = 10, kPoint = 11, kOther = 12;

CharClassTable NumberClasses() {
  std::vector<CharSet> sets;
  for (uint32_t d = 0; d < 10; ++d) sets.push_back({{'0' + d, '0' + d}});
  sets.push_back({{'-', '-'}});
  sets.push_back({{'.', '.'}});
  return CharClassTable::Of(sets);
}

/// Makes an automaton by walking from a first state. `step(state, symbol)` is nothing where the
/// text cannot go on; symbols are digits, kMinus and kPoint.
template <typename State, typename Step, typename Accept>
CharAutomaton WalkNumbers(State first, Step step, Accept accept) {
  const CharClassTable classes = NumberClasses();
  std::vector<int32_t> class_of(kOther, 0);
  for (int32_t d = 0; d < 10; ++d) class_of[d] = classes.of('0' + d);
  class_of[kMinus] = classes.of('-');
  class_of[kPoint] = classes.of('.');
  std::map<State, int32_t> ids{{first, 0}};
  std::vector<State> states{first};
  std::vector<int32_t> next;
  std::vector<uint8_t> accepts;
  for (size_t s = 0; s < states.size(); ++s) {
    const State state = states[s];
    accepts.push_back(accept(state) ? 1 : 0);
    next.resize(next.size() + classes.size(), CharAutomaton::kDead);
    for (int32_t symbol = 0; symbol < kOther; ++symbol) {
      const std::optional<State> to = step(state, symbol);
      if (!to) continue;
      const auto [it, added] = ids.try_emplace(*to, static_cast<int32_t>(states.size()));
      if (added) states.push_back(*to);
      next[s * classes.size() + class_of[symbol]] = it->second;
    }
  }
  return CharAutomaton(classes, std::move(next), std::move(accepts)).Minimized();
}

enum class Phase : uint8_t { kStart, kSign, kZero, kWhole, kPoint, kFraction };

// Orders of the magnitude read so far against that of the bound, as bits.
constexpr int kLess = 1, kSame = 2, kMore = 4;

struct Comparison {
  bool negative = false;
  Phase phase = Phase::kStart;
  int32_t digits = 0;  // kWhole: read of the whole part; kFraction: of the fraction while the same
  int order = kSame;   // of the digits so far
  auto tie() const { return std::tie(negative, phase, digits, order); }
  bool operator<(const Comparison& o) const { return tie() < o.tie(); }
};

/// Plain numbers whose magnitude stands to that of `x` as one of `positive` or `negative`.
CharAutomaton ComparedTo(const Decimal& x, int positive, int negative) {
  const auto num_whole = static_cast<int32_t>(x.whole.size());
  const auto num_fraction = static_cast<int32_t>(x.fraction.size());
  const auto digit_order = [](int digit, char against) {
    return digit < against - '0' ? kLess : digit > against - '0' ? kMore : kSame;
  };
  // The order of what was read when the whole part ends.
  const auto whole_order = [&](const Comparison& c) {
    return c.digits < num_whole ? kLess : c.order;
  };
  const auto step = [&](const Comparison& from, int32_t symbol) -> std::optional<Comparison> {
    Comparison to = from;
    if (symbol == kMinus) {
      if (from.phase != Phase::kStart) return std::nullopt;
      to.negative = true;
      to.phase = Phase::kSign;
      return to;
    }
    if (symbol == kPoint) {
      if (from.phase != Phase::kZero && from.phase != Phase::kWhole) return std::nullopt;
      to.phase = Phase::kPoint;
      to.order = whole_order(from);
      to.digits = 0;
      return to;
    }
    switch (from.phase) {
      case Phase::kStart:
      case Phase::kSign:
        to.phase = symbol == 0 ? Phase::kZero : Phase::kWhole;
        to.digits = 1;
        to.order = digit_order(symbol, x.whole[0]);
        return to;
      case Phase::kZero:
        return std::nullopt;
      case Phase::kWhole:
        if (from.digits >= num_whole) {
          to.digits = num_whole + 1;
          to.order = kMore;
        } else {
          if (from.order == kSame) to.order = digit_order(symbol, x.whole[from.digits]);
          ++to.digits;
        }
        return to;
      case Phase::kPoint:
      case Phase::kFraction:
        to.phase = Phase::kFraction;
        if (from.order != kSame) return to;
        to.order = digit_order(symbol, from.digits < num_fraction ? x.fraction[from.digits] : '0');
        to.digits = to.order != kSame ? 0 : std::min(from.digits + 1, num_fraction);
        return to;
    }
    return std::nullopt;
  };
  const auto accept = [&](const Comparison& c) {
    int order = c.order;
    switch (c.phase) {
      case Phase::kZero:
      case Phase::kWhole:
        order = whole_order(c);
        if (order == kSame && num_fraction > 0) order = kLess;
        break;
      case Phase::kFraction:
        if (order == kSame && c.digits < num_fraction) order = kLess;
        break;
      default:
        return false;
    }
    return ((c.negative ? negative : positive) & order) != 0;
  };
  return WalkNumbers(Comparison{}, step, accept);
}

CharAutomaton NumberPattern(std::string_view pattern) {
  return *CompilePattern(pattern, PatternUse::kWhole);
}

}  // namespace

std::string BeyondRounding(const std::string& bound, bool above) {
  constexpr double kMaxWhole = 9007199254740992;  // 2^53
  constexpr double kMinMagnitude = 1e-30;         // less has more digits than are worth it
  const double value = std::strtod(bound.c_str(), nullptr);
  if (!(std::abs(value) < kMaxWhole) || std::abs(value) < kMinMagnitude) return bound;
  const double infinity = std::numeric_limits<double>::infinity();
  const double beyond = std::nextafter(value, above ? infinity : -infinity);
  static_assert(std::numeric_limits<long double>::digits > std::numeric_limits<double>::digits);
  char digits[256];  // exactly half way: 2^-154 at least, so 154 digits at most
  std::snprintf(digits, sizeof(digits), "%.160Lf",
                (static_cast<long double>(value) + static_cast<long double>(beyond)) / 2);
  return digits;
}

std::optional<Decimal> ParseDecimal(std::string_view text) {
  Decimal out;
  int64_t exponent = 0;
  const size_t e = text.find_first_of("eE");
  if (e != std::string_view::npos) {
    std::string_view power = text.substr(e + 1);
    if (power.starts_with('+')) power.remove_prefix(1);
    if (!absl::SimpleAtoi(ToAbsl(power), &exponent)) return std::nullopt;
    text = text.substr(0, e);
  }
  if (text.starts_with('-')) {
    out.negative = true;
    text.remove_prefix(1);
  }
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  if (point < text.size()) digits += text.substr(point + 1);
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  int64_t whole = static_cast<int64_t>(point) + exponent;  // digits before the point
  if (whole > static_cast<int64_t>(kMaxDigits) || whole < -static_cast<int64_t>(kMaxDigits) ||
      digits.size() > kMaxDigits)
    return std::nullopt;
  if (whole < 0) {
    digits.insert(0, static_cast<size_t>(-whole), '0');
    whole = 0;
  }
  if (static_cast<size_t>(whole) > digits.size()) digits.resize(static_cast<size_t>(whole), '0');
  out.whole = digits.substr(0, static_cast<size_t>(whole));
  out.fraction = digits.substr(static_cast<size_t>(whole));
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size()));
  if (out.whole.empty()) out.whole = "0";
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  if (out.zero()) out.negative = false;
  return out;
}

int Compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  int order = a.whole.size() != b.whole.size() ? (a.whole.size() < b.whole.size() ? -1 : 1)
                                               : a.whole.compare(b.whole);
  if (order == 0) order = a.fraction.compare(b.fraction);
  return a.negative ? -order : order;
}

const CharAutomaton& AnyNumber() {
  static const auto& found =
      *new CharAutomaton(NumberPattern(R"(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)"));
  return found;
}

const CharAutomaton& PlainNumbers() {
  static const auto& found = *new CharAutomaton(NumberPattern(R"(-?(0|[1-9][0-9]*)(\.[0-9]+)?)"));
  return found;
}

const CharAutomaton& WholeNumbers() {
  static const auto& found = *new CharAutomaton(NumberPattern(R"(-?(0|[1-9][0-9]*))"));
  return found;
}

const CharAutomaton& WholeValues() {
  static const auto& found = *new CharAutomaton(NumberPattern(R"(-?(0|[1-9][0-9]*)(\.0+)?)"));
  return found;
}

CharAutomaton NumbersAbove(const Decimal& x, bool or_equal) {
  const int same = or_equal ? kSame : 0;
  if (x.negative) return ComparedTo(x, kLess | kSame | kMore, kLess | same);
  return ComparedTo(x, kMore | same, x.zero() ? same : 0);
}

CharAutomaton NumbersBelow(const Decimal& x, bool or_equal) {
  const int same = or_equal ? kSame : 0;
  if (x.negative) return ComparedTo(x, 0, kMore | same);
  return ComparedTo(x, kLess | same, x.zero() ? kMore | same : kLess | kSame | kMore);
}

CharAutomaton NumbersEqual(const Decimal& x) {
  if (x.zero()) return ComparedTo(x, kSame, kSame);
  return ComparedTo(x, x.negative ? 0 : kSame, x.negative ? kSame : 0);
}

absl::StatusOr<CharAutomaton> MultiplesOf(const Decimal& divisor) {
  // divisor = unit * 10^num_zeros / 10^places.
  const auto places = static_cast<int32_t>(divisor.fraction.size());
  int64_t unit = 0;
  const bool read = absl::SimpleAtoi(divisor.whole + divisor.fraction, &unit) && unit > 0;
  int32_t num_zeros = 0;
  for (; read && places == 0 && unit % 10 == 0; ++num_zeros) unit /= 10;
  if (!read || unit > kMaxDivisor || places > 20 || num_zeros * unit > kMaxDivisor) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the divisor is too large: at most ", kMaxDivisor,
                     ", not counting its point and, as far as that goes, zeros at its end"));
  }
  struct Rest {
    Phase phase = Phase::kStart;
    int32_t places = 0;
    int64_t rest = 0;   // of what goes before the zeros
    int32_t zeros = 0;  // that came last, as far as they matter
    auto tie() const { return std::tie(phase, places, rest, zeros); }
    bool operator<(const Rest& o) const { return tie() < o.tie(); }
  };
  const auto step = [&](const Rest& from, int32_t symbol) -> std::optional<Rest> {
    Rest to = from;
    if (symbol == kMinus) {
      if (from.phase != Phase::kStart) return std::nullopt;
      to.phase = Phase::kSign;
      return to;
    }
    if (symbol == kPoint) {
      if (from.phase != Phase::kZero && from.phase != Phase::kWhole) return std::nullopt;
      to.phase = Phase::kPoint;
      return to;
    }
    switch (from.phase) {
      case Phase::kStart:
      case Phase::kSign:
        to.phase = symbol == 0 ? Phase::kZero : Phase::kWhole;
        if (symbol == 0) to.zeros = num_zeros;
        if (symbol == 0) return to;
        break;
      case Phase::kZero:
        return std::nullopt;
      case Phase::kWhole:
        break;
      default:
        to.phase = Phase::kFraction;
        if (from.places == places) {  // what is smaller than the divisor's last digit
          if (symbol != 0) return std::nullopt;
          return to;
        }
        ++to.places;
    }
    if (symbol == 0 && from.zeros < num_zeros) {
      ++to.zeros;
      return to;
    }
    if (symbol != 0) {
      for (; to.zeros > 0; --to.zeros) to.rest = to.rest * 10 % unit;
    }
    to.rest = (to.rest * 10 + symbol) % unit;
    return to;
  };
  const auto accept = [&](const Rest& r) {
    if (r.phase != Phase::kZero && r.phase != Phase::kWhole && r.phase != Phase::kFraction)
      return false;
    int64_t rest = r.rest;
    for (int32_t p = r.places; p < places; ++p) rest = rest * 10 % unit;
    return rest == 0 && r.zeros == num_zeros;
  };
  return WalkNumbers(Rest{}, step, accept);
}

}  // namespace penstock::grammar
