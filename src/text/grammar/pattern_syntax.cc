#include "text/grammar/pattern_syntax.h"

#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock::grammar {
namespace {

constexpr int kMaxPatternDepth = 100;
constexpr int64_t kMaxRepeat = 100000;
constexpr size_t kMaxPatternLength = 65536;

CharSet Digits() { return {{'0', '9'}}; }
CharSet WordChars() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
CharSet Blanks() {
  return {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
          {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
}
CharSet LineEnds() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }

int HexDigit(char32_t c) {
  if (c >= '0' && c <= '9') return static_cast<int>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<int>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<int>(c - 'A') + 10;
  return -1;
}

class PatternParser {
 public:
  PatternParser(std::string_view pattern, PatternFlags flags)
      : text_(ToCodePoints(pattern)), flags_(flags) {}

  absl::StatusOr<PatternTree> Parse() {
    if (text_.size() > kMaxPatternLength) return Wrong("it is too long");
    ASSIGN_OR_RETURN(tree_.root, ReadChoice(0));
    if (!done()) return Wrong("unmatched )");
    return std::move(tree_);
  }

 private:
  using Kind = PatternNode::Kind;

  bool done() const { return at_ >= text_.size(); }
  char32_t peek() const { return done() ? 0 : text_[at_]; }
  bool Take(char32_t c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  absl::Status Wrong(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), " at character ", at_, " of the pattern"));
  }
  absl::Status Unsupported(std::string_view what) const {
    return absl::UnimplementedError(
        absl::StrCat(ToAbsl(what), " at character ", at_, " of the pattern: not supported"));
  }
  int32_t Add(PatternNode node) {
    tree_.nodes.push_back(std::move(node));
    return static_cast<int32_t>(tree_.nodes.size()) - 1;
  }
  int32_t AddSet(CharSet set, bool negated = false) {
    for (uint32_t c = 'a'; flags_.ignore_case && c <= 'z'; ++c) {
      const uint32_t capital = c - 'a' + 'A';
      if (set.Contains(c)) set.Add(capital, capital);
      if (set.Contains(capital)) set.Add(c, c);
    }
    return Add({Kind::kSet, negated ? set.Complement() : std::move(set), {}, 0, -1});
  }

  absl::StatusOr<int32_t> ReadChoice(int depth) {
    if (depth > kMaxPatternDepth) return Wrong("groups are nested too deep");
    PatternNode choice{Kind::kChoice, {}, {}, 0, -1};
    do {
      ASSIGN_OR_RETURN(const int32_t branch, ReadSequence(depth));
      choice.children.push_back(branch);
    } while (Take('|'));
    return choice.children.size() == 1 ? choice.children[0] : Add(std::move(choice));
  }

  absl::StatusOr<int32_t> ReadSequence(int depth) {
    PatternNode sequence{Kind::kSequence, {}, {}, 0, -1};
    while (!done() && peek() != '|' && peek() != ')') {
      ASSIGN_OR_RETURN(int32_t item, ReadAtom(depth));
      ASSIGN_OR_RETURN(item, ReadQuantifiers(item));
      sequence.children.push_back(item);
    }
    return sequence.children.size() == 1 ? sequence.children[0] : Add(std::move(sequence));
  }

  std::optional<int64_t> ReadNumber() {
    const size_t begin = at_;
    int64_t value = 0;
    for (; !done() && peek() >= '0' && peek() <= '9'; ++at_)
      value = std::min<int64_t>(value * 10 + static_cast<int64_t>(peek() - '0'), 1'000'000'000);
    if (at_ == begin) return std::nullopt;
    return value;
  }

  /// {n}, {n,} or {n,m}; nothing, with the place unchanged, where there is none.
  std::optional<std::pair<int64_t, int64_t>> ReadBraces() {
    const size_t begin = at_;
    if (!Take('{')) return std::nullopt;
    const std::optional<int64_t> min = ReadNumber();
    std::optional<int64_t> max = min;
    if (Take(',')) {
      max = ReadNumber();
      if (!max) max = -1;
    }
    if (min && Take('}')) return std::pair{*min, *max};
    at_ = begin;
    return std::nullopt;
  }

  absl::StatusOr<int32_t> ReadQuantifiers(int32_t item) {
    std::pair<int64_t, int64_t> counts;
    if (Take('*')) {
      counts = {0, -1};
    } else if (Take('+')) {
      counts = {1, -1};
    } else if (Take('?')) {
      counts = {0, 1};
    } else if (const auto braces = ReadBraces()) {
      counts = *braces;
    } else {
      return item;
    }
    Take('?');  // laziness changes what a match is, not whether there is one
    if (peek() == '*' || peek() == '+') return Wrong("nothing to repeat");
    if (counts.second >= 0 && counts.second < counts.first)
      return Wrong("the numbers of {} are out of order");
    if (std::max(counts.first, counts.second) > kMaxRepeat)
      return absl::ResourceExhaustedError(
          absl::StrCat("a repetition of more than ", kMaxRepeat, " in the pattern"));
    const Kind kind = tree_.nodes[item].kind;
    if (kind == Kind::kAhead || kind == Kind::kNotAhead) return Wrong("nothing to repeat");
    return Add({Kind::kRepeat, {}, {item}, counts.first, counts.second});
  }

  absl::StatusOr<int32_t> ReadAtom(int depth) {
    const char32_t c = text_[at_++];
    switch (c) {
      case '^':
        return Add({Kind::kBegin, {}, {}, 0, -1});
      case '$':
        return Add({Kind::kEnd, {}, {}, 0, -1});
      case '.':
        return AddSet(flags_.dot_all ? CharSet::All() : LineEnds().Complement());
      case '(':
        return ReadGroup(depth);
      case '[':
        return ReadClass();
      case '\\':
        return ReadEscape();
      case '*':
      case '+':
      case '?':
        return Wrong("nothing to repeat");
      default:
        return AddSet({{c, c}});
    }
  }

  absl::StatusOr<int32_t> ReadGroup(int depth) {
    Kind kind = Kind::kSequence;
    if (Take('?')) {
      if (Take('=')) {
        kind = Kind::kAhead;
      } else if (Take('!')) {
        kind = Kind::kNotAhead;
      } else if (Take('P') || peek() == '<') {
        if (!Take('<')) return Unsupported("(?P");
        if (peek() == '=' || peek() == '!') return Unsupported("look-behind");
        while (!done() && peek() != '>') ++at_;
        if (!Take('>')) return Wrong("the name of a group does not end");
      } else if (!Take(':')) {
        return Unsupported("this kind of group");
      }
    }
    ASSIGN_OR_RETURN(const int32_t inner, ReadChoice(depth + 1));
    if (!Take(')')) return Wrong("a group does not end");
    return Add({kind, {}, {inner}, 0, -1});
  }

  absl::StatusOr<uint32_t> ReadHex(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const int digit = HexDigit(peek());
      if (done() || digit < 0) return Wrong("a hexadecimal escape is too short");
      value = value * 16 + static_cast<uint32_t>(digit);
      ++at_;
    }
    return value;
  }

  absl::StatusOr<uint32_t> ReadUnicodeEscape() {
    if (Take('{')) {
      uint32_t value = 0;
      while (!done() && HexDigit(peek()) >= 0 && value <= kMaxCodePoint)
        value = value * 16 + static_cast<uint32_t>(HexDigit(text_[at_++]));
      if (!Take('}') || value > kMaxCodePoint) return Wrong("this is no code point");
      return value;
    }
    ASSIGN_OR_RETURN(uint32_t value, ReadHex(4));
    if (value >= 0xD800 && value < 0xDC00 && at_ + 1 < text_.size() && text_[at_] == '\\' &&
        text_[at_ + 1] == 'u') {
      at_ += 2;
      ASSIGN_OR_RETURN(const uint32_t low, ReadHex(4));
      if (low < 0xDC00 || low > 0xDFFF) return Wrong("a surrogate without its other half");
      value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
    }
    return value;
  }

  absl::StatusOr<CharSet> ReadProperty(bool negated) {
    if (!Take('{')) return Wrong("\\p without {}");
    std::string name;
    while (!done() && peek() != '}') AppendUtf8(text_[at_++], &name);
    if (!Take('}')) return Wrong("\\p{ does not end");
    UErrorCode error = U_ZERO_ERROR;
    const std::string expression = absl::StrCat("[\\p{", name, "}]");
    const icu::UnicodeSet found(icu::UnicodeString::fromUTF8(expression), error);
    if (U_FAILURE(error)) return Wrong("an unknown property of Unicode");
    CharSet set;
    for (int32_t i = 0; i < found.getRangeCount(); ++i)
      set.Add(static_cast<uint32_t>(found.getRangeStart(i)),
              static_cast<uint32_t>(found.getRangeEnd(i)));
    return negated ? set.Complement() : set;
  }

  /// After the backslash: a class, or one code point.
  absl::StatusOr<CharSet> ReadEscapedSet() {
    if (done()) return Wrong("the pattern ends in a backslash");
    const char32_t c = text_[at_++];
    uint32_t one = c;
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return Digits().Complement();
      case 'w':
        return WordChars();
      case 'W':
        return WordChars().Complement();
      case 's':
        return Blanks();
      case 'S':
        return Blanks().Complement();
      case 'p':
      case 'P':
        return ReadProperty(c == 'P');
      case 't':
        one = '\t';
        break;
      case 'n':
        one = '\n';
        break;
      case 'r':
        one = '\r';
        break;
      case 'f':
        one = '\f';
        break;
      case 'v':
        one = '\v';
        break;
      case '0':
        one = 0;
        break;
      case 'c': {
        const char32_t letter = peek() | 0x20;
        if (letter < 'a' || letter > 'z') return Wrong("\\c without a letter");
        ++at_;
        one = letter & 0x1F;
        break;
      }
      case 'x': {
        ASSIGN_OR_RETURN(one, ReadHex(2));
        break;
      }
      case 'u': {
        ASSIGN_OR_RETURN(one, ReadUnicodeEscape());
        break;
      }
      default:
        if (c >= '1' && c <= '9') return Unsupported("a back reference");
        if (c == 'k') return Unsupported("a back reference");
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return Wrong("an unknown escape");
    }
    return CharSet{{one, one}};
  }

  absl::StatusOr<int32_t> ReadEscape() {
    if (peek() == 'b' || peek() == 'B') return Unsupported("a word border");
    // Python's and PCRE's names of the two anchors.
    if (Take('A')) return Add({Kind::kBegin, {}, {}, 0, -1});
    if (Take('Z') || Take('z')) return Add({Kind::kEnd, {}, {}, 0, -1});
    ASSIGN_OR_RETURN(CharSet set, ReadEscapedSet());
    return AddSet(std::move(set));
  }

  absl::StatusOr<CharSet> ReadClassItem() {
    if (done()) return Wrong("a class does not end");
    if (Take('\\')) {
      if (Take('b')) return CharSet{{8, 8}};
      if (Take('-')) return CharSet{{'-', '-'}};
      return ReadEscapedSet();
    }
    const char32_t c = text_[at_++];
    return CharSet{{c, c}};
  }

  static bool IsOne(const CharSet& set) {
    return set.ranges().size() == 1 && set.ranges()[0].low == set.ranges()[0].high;
  }

  absl::StatusOr<int32_t> ReadClass() {
    const bool negated = Take('^');
    CharSet set;
    while (!Take(']')) {
      ASSIGN_OR_RETURN(CharSet item, ReadClassItem());
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        const size_t dash = at_++;
        ASSIGN_OR_RETURN(const CharSet last, ReadClassItem());
        if (IsOne(item) && IsOne(last)) {
          if (last.ranges()[0].low < item.ranges()[0].low) {
            at_ = dash;
            return Wrong("the ends of a range are out of order");
          }
          item = {{item.ranges()[0].low, last.ranges()[0].low}};
        } else {  // a class is no end of a range: the dash stands for itself
          item.Add('-', '-');
          item.Add(last);
        }
      }
      set.Add(item);
    }
    return AddSet(std::move(set), negated);
  }

  std::u32string text_;
  const PatternFlags flags_;
  size_t at_ = 0;
  PatternTree tree_;
};

}  // namespace

absl::StatusOr<PatternTree> ParsePattern(std::string_view pattern, PatternFlags flags) {
  return PatternParser(pattern, flags).Parse();
}

}  // namespace penstock::grammar
