#include "text/grammar/notation_reader.h"

#include <algorithm>
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

}  // namespace

NotationReader::NotationReader(std::string_view text) : text_(ToCodePoints(text)) {}

bool NotationReader::Take(char32_t c) {
  if (done() || text_[at_] != c) return false;
  ++at_;
  return true;
}

bool NotationReader::Take(std::u32string_view word) {
  if (!std::u32string_view(text_).substr(std::min(at_, text_.size())).starts_with(word))
    return false;
  at_ += word.size();
  return true;
}

absl::Status NotationReader::Failed(absl::StatusCode code, std::string_view what) const {
  const auto begin = text_.begin();
  const auto here = begin + static_cast<ptrdiff_t>(std::min(at_, text_.size()));
  const auto line = 1 + std::count(begin, here, U'\n');
  size_t column = 1;
  for (auto it = here; it != begin && *std::prev(it) != '\n'; --it) ++column;
  return absl::Status(code, absl::StrCat("line ", line, ", column ", column, ": ", ToAbsl(what)));
}

void NotationReader::SkipBlanks(bool lines) {
  for (; !done(); ++at_) {
    if (AtComment()) {
      while (!done() && peek() != '\n') ++at_;
      if (done() || !lines) return;
    } else if (peek() != ' ' && peek() != '\t' && !(lines && (peek() == '\n' || peek() == '\r'))) {
      return;
    }
  }
}

NotationReader::Entry& NotationReader::RuleOf(const std::string& name) {
  Entry& entry = rules_[name];
  if (entry.rule < 0) entry.rule = builder_.NewRule(name);
  return entry;
}

absl::StatusOr<NotationReader::Expr> NotationReader::Root(const std::string& name) {
  const auto root = rules_.find(name);
  if (root == rules_.end()) return Wrong("there is no rule called " + name);
  for (const auto& [other, rule] : rules_) {
    if (!rule.defined)
      return absl::InvalidArgumentError(absl::StrCat("the rule ", other, " is not defined"));
  }
  return builder_.Refer(root->second.rule);
}

absl::StatusOr<NotationReader::Expr> NotationReader::ReadChoice(int depth) {
  if (depth > kMaxGroupDepth) return Wrong("groups are nested too deep");
  std::vector<Expr> options;
  do {
    SkipBlanks(true);
    ASSIGN_OR_RETURN(const Expr option, ReadSequence(depth));
    options.push_back(option);
    RETURN_IF_ERROR(SkipAlias());
    SkipToBar(depth);
  } while (Take('|'));
  return builder_.Choice(std::move(options));
}

/// Alternatives may go on in the next line.
void NotationReader::SkipToBar(int depth) {
  const size_t before = at_;
  SkipBlanks(true);
  if (peek() != '|' && depth == 0) at_ = before;
}

absl::StatusOr<NotationReader::Expr> NotationReader::ReadSequence(int depth) {
  std::vector<Expr> parts;
  for (;;) {
    SkipBlanks(depth > 0);
    const char32_t c = peek();
    if (done() || c == '|' || c == ')' || c == ']' || c == '\n' || c == '\r') break;
    if (c == '-' && peek(1) == '>') break;
    ASSIGN_OR_RETURN(const Expr item, ReadItem(depth));
    parts.push_back(item);
    if (builder_.num_expressions() > GrammarBuilder::kMaxExpressions)
      return absl::ResourceExhaustedError("the grammar has too many rules");
  }
  return builder_.Sequence(std::move(parts));
}

absl::StatusOr<int64_t> NotationReader::ReadNumber() {
  if (peek() < '0' || peek() > '9') return Wrong("expected a number");
  int64_t value = 0;
  for (; peek() >= '0' && peek() <= '9'; ++at_) {
    value = value * 10 + static_cast<int64_t>(peek() - '0');
    if (value > kMaxTurns) return Wrong("the number is too large");
  }
  return value;
}

absl::StatusOr<char32_t> NotationReader::ReadChar() {
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
    case 'f':
      return U'\f';
    case '"':
    case '\'':
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

absl::StatusOr<std::u32string> NotationReader::ReadQuoted() {
  std::u32string literal;
  while (!Take('"')) {
    if (peek() == '\n') return Wrong("a literal does not end in its line");
    ASSIGN_OR_RETURN(const char32_t c, ReadChar());
    literal.push_back(c);
  }
  return literal;
}

NotationReader::Expr NotationReader::OneOf(const CharSet& set) {
  CharClassTable classes = CharClassTable::Of({set});
  std::vector<int32_t> next(static_cast<size_t>(classes.size()) * 2, CharAutomaton::kDead);
  for (const int32_t cls : classes.ClassesOf(set)) next[cls] = 1;
  const CharAutomaton one(std::move(classes), std::move(next), {0, 1});
  return builder_.Terminal(ByteAutomaton::Of(one.Minimized(), TextEncoding::kUtf8));
}

}  // namespace penstock::grammar
