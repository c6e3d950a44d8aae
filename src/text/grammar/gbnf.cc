#include "text/grammar/gbnf.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "text/grammar/notation_reader.h"

namespace penstock::grammar {
namespace {

bool IsNameChar(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

class GbnfParser final : NotationReader {
 public:
  explicit GbnfParser(std::string_view text) : NotationReader(text) {}

  absl::StatusOr<Grammar> Parse() {
    SkipBlanks(true);
    while (!done()) RETURN_IF_ERROR(ReadRule());
    ASSIGN_OR_RETURN(const Expr root, Root("root"));
    return builder_.Build(root);
  }

 private:
  bool AtComment() const override { return peek() == '#'; }

  std::string ReadName() {
    std::string name;
    for (; IsNameChar(peek()); ++at_) name.push_back(static_cast<char>(peek()));
    return name;
  }

  absl::Status ReadRule() {
    const std::string name = ReadName();
    if (name.empty()) return Wrong("expected the name of a rule");
    SkipBlanks(false);
    if (!Take(U"::=")) return Wrong("expected ::=");
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

  absl::StatusOr<Expr> ReadItem(int depth) override {
    ASSIGN_OR_RETURN(Expr item, ReadAtom(depth));
    for (;;) {
      SkipBlanks(depth > 0);
      if (Take('*')) {
        item = builder_.Repeat(item, 0, -1);
      } else if (Take('+')) {
        item = builder_.Repeat(item, 1, -1);
      } else if (Take('?')) {
        item = builder_.Optional(item);
      } else if (Take('{')) {
        ASSIGN_OR_RETURN(item, ReadTurns(item, depth > 0));
      } else {
        return item;
      }
    }
  }

  absl::StatusOr<Expr> ReadAtom(int depth) {
    if (Take('"')) {
      ASSIGN_OR_RETURN(const std::u32string text, ReadQuoted());
      return builder_.Literal(FromCodePoints(text));
    }
    if (Take('[')) return ReadClass();
    if (Take('.')) return OneOf(CharSet::All());
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

  absl::StatusOr<Expr> ReadTurns(Expr item, bool lines) {
    SkipBlanks(lines);
    ASSIGN_OR_RETURN(const int64_t min, ReadNumber());
    int64_t max = min;
    SkipBlanks(lines);
    if (Take(',')) {
      max = -1;
      SkipBlanks(lines);
      if (peek() != '}') {
        ASSIGN_OR_RETURN(max, ReadNumber());
        SkipBlanks(lines);
      }
    }
    if (!Take('}')) return Wrong("expected }");
    if (max >= 0 && max < min) return Wrong("the numbers of {} are out of order");
    return builder_.Repeat(item, min, max);
  }

  absl::StatusOr<Expr> ReadClass() {
    const bool negated = Take('^');
    CharSet set;
    while (!Take(']')) {
      ASSIGN_OR_RETURN(const char32_t low, ReadChar());
      char32_t high = low;
      if (peek() == '-' && at_ + 1 < text_.size() && peek(1) != ']') {
        ++at_;
        ASSIGN_OR_RETURN(high, ReadChar());
        if (high < low) return Wrong("the ends of a range are out of order");
      }
      set.Add(low, high);
    }
    return OneOf(negated ? set.Complement() : set);
  }
};

}  // namespace

absl::StatusOr<Grammar> CompileGbnf(std::string_view text) { return GbnfParser(text).Parse(); }

}  // namespace penstock::grammar
