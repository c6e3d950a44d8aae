#include "text/grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock::grammar {
namespace {

constexpr int kMaxGroupDepth = 100;
constexpr int64_t kMaxTurns = 1'000'000;

bool IsNameChar(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : text_(ToCodePoints(text)) {}

  absl::StatusOr<Grammar> Parse() {
    SkipBlanks(true);
    while (!done()) RETURN_IF_ERROR(ReadRule());
    const auto root = rules_.find("root");
    if (root == rules_.end()) return Wrong("there is no rule called root");
    for (const auto& [name, rule] : rules_) {
      if (!rule.defined)
        return absl::InvalidArgumentError(absl::StrCat("the rule ", name, " is not defined"));
    }
    return builder_.Build(builder_.Refer(root->second.rule));
  }

 private:
  using Expr = GrammarBuilder::Expr;
  struct Entry {
    GrammarBuilder::Rule rule = -1;
    bool defined = false;
  };

  bool done() const { return at_ >= text_.size(); }
  char32_t peek() const { return done() ? 0 : text_[at_]; }
  bool Take(char32_t c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  absl::Status Wrong(std::string_view what) const {
    const auto begin = text_.begin();
    const auto here = begin + static_cast<ptrdiff_t>(std::min(at_, text_.size()));
    const auto line = 1 + std::count(begin, here, U'\n');
    size_t column = 1;
    for (auto it = here; it != begin && *std::prev(it) != '\n'; --it) ++column;
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line, ", column ", column, ": ", ToAbsl(what)));
  }
  void SkipBlanks(bool lines) {
    for (; !done(); ++at_) {
      if (peek() == '#') {
        while (!done() && peek() != '\n') ++at_;
        if (done() || !lines) return;
      } else if (peek() != ' ' && peek() != '\t' &&
                 !(lines && (peek() == '\n' || peek() == '\r'))) {
        return;
      }
    }
  }

  std::string ReadName() {
    std::string name;
    for (; IsNameChar(peek()); ++at_) name.push_back(static_cast<char>(peek()));
    return name;
  }

  Entry& RuleOf(const std::string& name) {
    Entry& entry = rules_[name];
    if (entry.rule < 0) entry.rule = builder_.NewRule(name);
    return entry;
  }

  absl::Status ReadRule() {
    const std::string name = ReadName();
    if (name.empty()) return Wrong("expected the name of a rule");
    SkipBlanks(false);
    if (!Take(':') || !Take(':') || !Take('=')) return Wrong("expected ::=");
    SkipBlanks(true);
    if (RuleOf(name).defined) return Wrong(absl::StrCat("the rule ", name, " is there twice"));
    RuleOf(name).defined = true;
    ASSIGN_OR_RETURN(const Expr body, ReadChoice(0));
    builder_.Define(RuleOf(name).rule, body);
    SkipBlanks(false);
    if (!done() && peek() != '\n' && peek() != '\r') return Wrong("expected the end of the rule");
    SkipBlanks(true);
    return absl::OkStatus();
  }

  absl::StatusOr<Expr> ReadChoice(int depth) {
    if (depth > kMaxGroupDepth) return Wrong("groups are nested too deep");
    std::vector<Expr> options;
    do {
      SkipBlanks(true);
      ASSIGN_OR_RETURN(const Expr option, ReadSequence(depth));
      options.push_back(option);
      SkipToBar(depth);
    } while (Take('|'));
    return builder_.Choice(std::move(options));
  }

  /// Alternatives may go on in the next line.
  void SkipToBar(int depth) {
    const size_t before = at_;
    SkipBlanks(true);
    if (peek() != '|' && depth == 0) at_ = before;
  }

  absl::StatusOr<Expr> ReadSequence(int depth) {
    std::vector<Expr> parts;
    for (;;) {
      SkipBlanks(depth > 0);
      const char32_t c = peek();
      if (done() || c == '|' || c == ')' || c == '\n' || c == '\r') break;
      ASSIGN_OR_RETURN(Expr item, ReadItem(depth));
      ASSIGN_OR_RETURN(item, ReadQuantifiers(item));
      parts.push_back(item);
      if (builder_.num_expressions() > GrammarBuilder::kMaxExpressions)
        return absl::ResourceExhaustedError("the grammar has too many rules");
    }
    return builder_.Sequence(std::move(parts));
  }

  absl::StatusOr<Expr> ReadItem(int depth) {
    if (Take('"')) return ReadQuoted();
    if (Take('[')) return ReadClass();
    if (Take('.')) return Set(CharSet::All());
    if (Take('(')) {
      ASSIGN_OR_RETURN(const Expr inner, ReadChoice(depth + 1));
      SkipBlanks(true);
      if (!Take(')')) return Wrong("expected )");
      return inner;
    }
    const std::string name = ReadName();
    if (name.empty()) return Wrong("expected a literal, a class, a group or the name of a rule");
    return builder_.Refer(RuleOf(name).rule);
  }

  absl::StatusOr<int64_t> ReadNumber() {
    if (peek() < '0' || peek() > '9') return Wrong("expected a number");
    int64_t value = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      value = value * 10 + static_cast<int64_t>(peek() - '0');
      if (value > kMaxTurns) return Wrong("the number is too large");
    }
    return value;
  }

  absl::StatusOr<Expr> ReadQuantifiers(Expr item) {
    for (;;) {
      if (Take('*')) {
        item = builder_.Repeat(item, 0, -1);
      } else if (Take('+')) {
        item = builder_.Repeat(item, 1, -1);
      } else if (Take('?')) {
        item = builder_.Optional(item);
      } else if (Take('{')) {
        ASSIGN_OR_RETURN(const int64_t min, ReadNumber());
        int64_t max = min;
        if (Take(',')) {
          max = -1;
          if (peek() != '}') {
            ASSIGN_OR_RETURN(max, ReadNumber());
          }
        }
        if (!Take('}')) return Wrong("expected }");
        if (max >= 0 && max < min) return Wrong("the numbers of {} are out of order");
        item = builder_.Repeat(item, min, max);
      } else {
        return item;
      }
    }
  }

  absl::StatusOr<char32_t> ReadChar() {
    if (done()) return Wrong("the text ends inside a literal or class");
    const char32_t c = text_[at_++];
    if (c != '\\') return c;
    if (done()) return Wrong("the text ends in a backslash");
    const char32_t escaped = text_[at_++];
    int digits = 0;
    switch (escaped) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'x':
        digits = 2;
        break;
      case 'u':
        digits = 4;
        break;
      case 'U':
        digits = 8;
        break;
      case '"':
      case '\\':
      case '[':
      case ']':
      case '-':
      case '^':
      case '/':
        return escaped;
      default:
        return Wrong("an unknown escape");
    }
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char32_t d = peek() | (peek() >= 'A' && peek() <= 'F' ? 0x20 : 0);
      if (!((d >= '0' && d <= '9') || (d >= 'a' && d <= 'f')))
        return Wrong("a hexadecimal escape is too short");
      value = value * 16 + (d <= '9' ? d - '0' : d - 'a' + 10);
    }
    if (value > kMaxCodePoint || (value >= 0xD800 && value < 0xE000))
      return Wrong("this is no code point");
    return static_cast<char32_t>(value);
  }

  absl::StatusOr<Expr> ReadQuoted() {
    std::string literal;
    while (!Take('"')) {
      if (peek() == '\n') return Wrong("a literal does not end in its line");
      ASSIGN_OR_RETURN(const char32_t c, ReadChar());
      AppendUtf8(c, &literal);
    }
    return builder_.Literal(literal);
  }

  absl::StatusOr<Expr> ReadClass() {
    const bool negated = Take('^');
    CharSet set;
    while (!Take(']')) {
      ASSIGN_OR_RETURN(const char32_t low, ReadChar());
      char32_t high = low;
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        ASSIGN_OR_RETURN(high, ReadChar());
        if (high < low) return Wrong("the ends of a range are out of order");
      }
      set.Add(low, high);
    }
    return Set(negated ? set.Complement() : set);
  }

  Expr Set(const CharSet& set) {
    CharClassTable classes = CharClassTable::Of({set});
    std::vector<int32_t> next(static_cast<size_t>(classes.size()) * 2, CharAutomaton::kDead);
    for (const int32_t cls : classes.ClassesOf(set)) next[cls] = 1;
    const CharAutomaton one(std::move(classes), std::move(next), {0, 1});
    return builder_.Terminal(ByteAutomaton::Of(one.Minimized(), TextEncoding::kUtf8));
  }

  std::u32string text_;
  size_t at_ = 0;
  GrammarBuilder builder_;
  std::map<std::string, Entry> rules_;
};

}  // namespace

absl::StatusOr<Grammar> CompileGbnf(std::string_view text) { return GbnfParser(text).Parse(); }

}  // namespace penstock::grammar
