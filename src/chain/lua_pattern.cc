#include "chain/lua_pattern.h"

#include "absl/strings/str_format.h"

namespace penstock {
namespace {

/// What stands between the brackets of a class; "": the letter names none.
std::string ClassOf(char letter) {
  const char* name = nullptr;
  switch (letter | 32) {
    case 'a':
      name = "alpha";
      break;
    case 'c':
      name = "cntrl";
      break;
    case 'd':
      name = "digit";
      break;
    case 'g':
      name = "graph";
      break;
    case 'l':
      name = "lower";
      break;
    case 'p':
      name = "punct";
      break;
    case 's':
      name = "space";
      break;
    case 'u':
      name = "upper";
      break;
    case 'w':
      name = "alnum";
      break;
    case 'x':
      name = "xdigit";
      break;
    default:
      return "";
  }
  const bool letter_is_upper = letter >= 'A' && letter <= 'Z';
  if (!letter_is_upper && !(letter >= 'a' && letter <= 'z')) return "";
  return absl::StrFormat("[:%s%s:]", letter_is_upper ? "^" : "", name);
}

std::string Literal(char c) { return absl::StrFormat("\\x%02x", static_cast<unsigned char>(c)); }

absl::Status BadPattern(const char* what) {
  return absl::InvalidArgumentError(absl::StrFormat("malformed pattern (%s)", what));
}

/// A set that begins at `at`, which is moved behind it.
absl::StatusOr<std::string> TranslateSet(std::string_view pattern, size_t& at) {
  std::string out = "[";
  ++at;
  if (at < pattern.size() && pattern[at] == '^') {
    out += '^';
    ++at;
  }
  for (bool first = true;; first = false) {
    if (at >= pattern.size()) return BadPattern("missing ']'");
    if (pattern[at] == ']' && !first) break;
    if (pattern[at] == '%') {
      if (at + 1 >= pattern.size()) return BadPattern("ends with '%'");
      const std::string known = ClassOf(pattern[at + 1]);
      out += known.empty() ? Literal(pattern[at + 1]) : known;
      at += 2;
    } else if (at + 2 < pattern.size() && pattern[at + 1] == '-' && pattern[at + 2] != ']') {
      // Backwards it holds nothing, which RE2 has no way to write.
      if (static_cast<unsigned char>(pattern[at]) > static_cast<unsigned char>(pattern[at + 2]))
        return BadPattern("a range backwards");
      out += Literal(pattern[at]) + "-" + Literal(pattern[at + 2]);
      at += 3;
    } else {
      out += Literal(pattern[at++]);
    }
  }
  ++at;
  return out + "]";
}

}  // namespace

absl::StatusOr<LuaPattern> TranslateLuaPattern(std::string_view pattern) {
  constexpr size_t kMaxPattern = 1024, kMaxCaptures = 32;
  if (pattern.size() > kMaxPattern) return BadPattern("too long");
  LuaPattern out;
  size_t at = 0;
  if (!pattern.empty() && pattern[0] == '^') {
    out.anchored = true;
    at = 1;
  }
  int open = 0;
  while (at < pattern.size()) {
    std::string item;
    switch (pattern[at]) {
      case '(': {
        const bool position = at + 1 < pattern.size() && pattern[at + 1] == ')';
        out.positions.push_back(position);
        if (out.positions.size() > kMaxCaptures) return BadPattern("too many captures");
        out.expression += position ? "()" : "(";
        if (!position) ++open;
        at += position ? 2 : 1;
        continue;
      }
      case ')':
        if (--open < 0) return BadPattern("unexpected ')'");
        out.expression += ')';
        ++at;
        continue;
      case '$':
        if (at + 1 == pattern.size()) {
          out.expression += "\\z";
          ++at;
          continue;
        }
        item = Literal('$');
        ++at;
        break;
      case '.':
        item = ".";
        ++at;
        break;
      case '[': {
        absl::StatusOr<std::string> set = TranslateSet(pattern, at);
        if (!set.ok()) return set.status();
        item = *std::move(set);
        break;
      }
      case '%': {
        if (at + 1 >= pattern.size()) return BadPattern("ends with '%'");
        const char next = pattern[at + 1];
        if (next == 'b' || next == 'f' || (next >= '0' && next <= '9'))
          return BadPattern("%b, %f and %1 are not known here");
        const std::string known = ClassOf(next);
        item = known.empty() ? Literal(next) : "[" + known + "]";
        at += 2;
        break;
      }
      default:
        item = Literal(pattern[at++]);
    }
    out.expression += item;
    if (at >= pattern.size()) break;
    const char repeats = pattern[at];
    if (repeats == '*' || repeats == '+' || repeats == '?') out.expression += repeats;
    if (repeats == '-') out.expression += "*?";
    if (repeats == '*' || repeats == '+' || repeats == '?' || repeats == '-') ++at;
  }
  if (open > 0) return BadPattern("unfinished capture");
  return out;
}

}  // namespace penstock
