#include "text/grammar/lark.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/notation_reader.h"
#include "text/grammar/pattern.h"

namespace penstock::grammar {
namespace {

/// What `%import common.NAME` brings.
constexpr std::pair<std::string_view, std::string_view> kCommonTerminals[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9A-Fa-f]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+\\-]?[0-9]+"},
    {"DECIMAL", "[0-9]+\\.[0-9]*|\\.[0-9]+"},
    {"FLOAT", "[0-9]+[eE][+\\-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+\\-]?[0-9]+)?"},
    {"SIGNED_FLOAT",
     "[+\\-]?(?:[0-9]+[eE][+\\-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+\\-]?[0-9]+)?)"},
    {"NUMBER", "(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+\\-]?[0-9]+)?"},
    {"SIGNED_NUMBER", "[+\\-]?(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+\\-]?[0-9]+)?"},
    {"ESCAPED_STRING", "\"(?:[^\"\\\\\\n]|\\\\[^\\n])*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[A-Za-z]"},
    {"WORD", "[A-Za-z]+"},
    {"CNAME", "[A-Za-z_][A-Za-z0-9_]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(?:\\r?\\n)+"},
    {"SH_COMMENT", "#[^\\n]*"},
    {"CPP_COMMENT", "\\/\\/[^\\n]*"},
    {"C_COMMENT", "\\/\\*(?:[^*]|\\*+[^*\\/])*\\*+\\/"},
    {"SQL_COMMENT", "--[^\\n]*"},
};

bool IsLower(char32_t c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char32_t c) { return c >= 'A' && c <= 'Z'; }
bool IsLarkNameChar(char32_t c) {
  return IsLower(c) || IsUpper(c) || (c >= '0' && c <= '9') || c == '_';
}

class LarkParser final : NotationReader {
 public:
  explicit LarkParser(std::string_view text)
      : NotationReader(text), ignore_(builder_.NewRule("%ignore")) {}

  absl::StatusOr<Grammar> Parse() {
    for (SkipBlanks(true); !done(); SkipBlanks(true)) RETURN_IF_ERROR(ReadStatement());
    const Expr ignored = ignored_.empty() ? GrammarBuilder::kEmpty
                                          : builder_.Repeat(builder_.Choice(ignored_), 0, -1);
    builder_.Define(ignore_, ignored);
    ASSIGN_OR_RETURN(const Expr start, Root("start"));
    return builder_.Build(builder_.Sequence({start, builder_.Refer(ignore_)}));
  }

 private:
  bool AtComment() const override { return peek() == '#' || (peek() == '/' && peek(1) == '/'); }

  std::string ReadName() {
    std::string name;
    for (; IsLarkNameChar(peek()); ++at_) name.push_back(static_cast<char>(peek()));
    return name;
  }

  /// Names of terminals are in capitals, but for underscores in front.
  static bool IsTerminal(const std::string& name) {
    const auto first = std::find_if(name.begin(), name.end(), [](char c) { return c != '_'; });
    return first != name.end() && IsUpper(static_cast<char32_t>(*first));
  }

  absl::Status EndOfStatement() {
    SkipBlanks(false);
    if (!done() && peek() != '\n' && peek() != '\r') return Wrong("expected the end of the line");
    return absl::OkStatus();
  }

  absl::Status ReadStatement() {
    if (Take('%')) {
      const std::string directive = ReadName();
      if (directive != "import" && directive != "ignore")
        return Unsupported(absl::StrCat("the directive %", directive, " is not supported"));
      SkipBlanks(false);
      if (directive == "import") return ReadImport();
      in_terminal_ = true;
      ASSIGN_OR_RETURN(const Expr ignored, ReadChoice(0));
      ignored_.push_back(ignored);
      return EndOfStatement();
    }
    while (Take('?') || Take('!')) {
    }
    const std::string name = ReadName();
    if (name.empty()) return Wrong("expected the name of a rule or terminal");
    if (peek() == '{') return Unsupported("templates are not supported: " + name);
    if (Take('.')) {
      Take('-');
      RETURN_IF_ERROR(ReadNumber().status());
    }
    SkipBlanks(false);
    if (!Take(':')) return Wrong("expected : behind the name");
    if (RuleOf(name).defined) return Wrong(absl::StrCat(name, " is there twice"));
    RuleOf(name).defined = true;
    in_terminal_ = IsTerminal(name);
    ASSIGN_OR_RETURN(const Expr body, ReadChoice(0));
    builder_.Define(RuleOf(name).rule, body);
    return EndOfStatement();
  }

  absl::Status ReadImport() {
    const std::string library = ReadName();
    if (library != "common") return Unsupported("only the library common can be imported");
    SkipBlanks(false);
    if (Take('(')) {
      do {
        SkipBlanks(true);
        const std::string name = ReadName();
        RETURN_IF_ERROR(Import(name, name));
        SkipBlanks(true);
      } while (Take(','));
      if (!Take(')')) return Wrong("expected )");
      return EndOfStatement();
    }
    if (!Take('.')) return Wrong("expected a dot and a name");
    const std::string name = ReadName();
    std::string alias = name;
    SkipBlanks(false);
    if (Take(U"->")) {
      SkipBlanks(false);
      alias = ReadName();
    }
    RETURN_IF_ERROR(Import(name, alias));
    return EndOfStatement();
  }

  absl::Status Import(const std::string& name, const std::string& alias) {
    const auto* const found = std::find_if(std::begin(kCommonTerminals), std::end(kCommonTerminals),
                                           [&](const auto& entry) { return entry.first == name; });
    if (found == std::end(kCommonTerminals))
      return Wrong(absl::StrCat("the library common has no ", name));
    if (alias.empty() || RuleOf(alias).defined) return Wrong(alias + " is there twice");
    RuleOf(alias).defined = true;
    ASSIGN_OR_RETURN(const Expr made, Pattern(found->second));
    builder_.Define(RuleOf(alias).rule, made);
    return absl::OkStatus();
  }

  absl::StatusOr<Expr> Pattern(std::string_view pattern, PatternFlags flags = {}) {
    const absl::StatusOr<CharAutomaton> made = CompilePattern(pattern, PatternUse::kWhole, flags);
    if (!made.ok()) return Failed(made.status().code(), Message(made.status()));
    return builder_.Terminal(ByteAutomaton::Of(*made, TextEncoding::kUtf8));
  }

  absl::Status SkipAlias() override {
    SkipBlanks(false);
    if (!Take(U"->")) return absl::OkStatus();
    SkipBlanks(false);
    return ReadName().empty() ? Wrong("expected a name behind ->") : absl::OkStatus();
  }

  absl::StatusOr<Expr> ReadItem(int depth) override {
    ASSIGN_OR_RETURN(Expr item, ReadAtom(depth));
    for (;;) {
      const size_t before = at_;
      SkipBlanks(false);
      if (Take('*')) {
        item = builder_.Repeat(item, 0, -1);
      } else if (Take('+')) {
        item = builder_.Repeat(item, 1, -1);
      } else if (Take('?')) {
        item = builder_.Optional(item);
      } else if (Take('~')) {
        SkipBlanks(false);
        ASSIGN_OR_RETURN(const int64_t min, ReadNumber());
        int64_t max = min;
        if (Take(U"..")) {
          ASSIGN_OR_RETURN(max, ReadNumber());
        }
        if (max < min) return Wrong("the numbers behind ~ are out of order");
        item = builder_.Repeat(item, min, max);
      } else {
        at_ = before;
        return item;
      }
    }
  }

  absl::StatusOr<Expr> ReadAtom(int depth) {
    for (const auto& [open, close] : {std::pair<char32_t, char32_t>{'(', ')'}, {'[', ']'}}) {
      if (!Take(open)) continue;
      ASSIGN_OR_RETURN(const Expr inner, ReadChoice(depth + 1));
      SkipBlanks(true);
      if (!Take(close)) return Wrong(close == ')' ? "expected )" : "expected ]");
      return open == '[' ? builder_.Optional(inner) : inner;
    }
    if (Take('"')) {
      ASSIGN_OR_RETURN(const Expr literal, ReadLiteral());
      return Lexeme(literal);
    }
    if (Take('/')) {
      ASSIGN_OR_RETURN(const Expr pattern, ReadPattern());
      return Lexeme(pattern);
    }
    const std::string name = ReadName();
    if (name.empty())
      return Wrong("expected a literal, a regular expression, a group or the name of a rule");
    if (peek() == '{') return Unsupported("templates are not supported: " + name);
    const Expr rule = builder_.Refer(RuleOf(name).rule);
    if (IsTerminal(name)) return Lexeme(rule);
    if (in_terminal_) return Wrong(absl::StrCat("a terminal cannot hold the rule ", name));
    return rule;
  }

  /// In a rule, what is ignored may stand in front of it.
  Expr Lexeme(Expr expr) {
    return in_terminal_ ? expr : builder_.Sequence({builder_.Refer(ignore_), expr});
  }

  absl::StatusOr<Expr> ReadLiteral() {
    ASSIGN_OR_RETURN(const std::u32string text, ReadQuoted());
    if (Take(U"..")) {
      if (!Take('"')) return Wrong("expected the end of a range");
      ASSIGN_OR_RETURN(const std::u32string last, ReadQuoted());
      if (text.size() != 1 || last.size() != 1 || last < text)
        return Wrong("a range goes from one character to a later one");
      return OneOf({{text[0], last[0]}});
    }
    if (!Take('i')) return builder_.Literal(FromCodePoints(text));
    std::vector<Expr> chars;
    for (const char32_t c : text) {
      CharSet set{{c, c}};
      if (IsLower(c | 0x20) && c < 0x80) set = {{c & ~0x20u, c & ~0x20u}, {c | 0x20, c | 0x20}};
      chars.push_back(OneOf(set));
    }
    return builder_.Sequence(std::move(chars));
  }

  absl::StatusOr<Expr> ReadPattern() {
    std::u32string pattern;
    for (; peek() != '/'; ++at_) {
      if (done() || peek() == '\n') return Wrong("a regular expression does not end in its line");
      if (peek() == '\\') pattern.push_back(text_[at_++]);
      pattern.push_back(peek());
    }
    ++at_;
    PatternFlags flags;
    for (; IsLower(peek()); ++at_) {
      const auto flag = static_cast<char>(peek());
      if (flag != 'i' && flag != 's' && flag != 'u')  // all patterns are of code points
        return Unsupported(std::string("regular expressions with the flag ") + flag +
                           " are not supported");
      flags.ignore_case |= flag == 'i';
      flags.dot_all |= flag == 's';
    }
    return Pattern(FromCodePoints(pattern), flags);
  }

  const GrammarBuilder::Rule ignore_;
  std::vector<Expr> ignored_;
  bool in_terminal_ = false;
};

}  // namespace

absl::StatusOr<Grammar> CompileLark(std::string_view text) { return LarkParser(text).Parse(); }

}  // namespace penstock::grammar
