// Grammars in Lark's notation: what they match, and how what is wrong is said.
#include "text/grammar/lark.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "text/grammar/grammar_compiler.h"
#include "text/grammar/matcher.h"

namespace penstock::grammar {
namespace {

bool LarkMatches(const char* grammar, const std::string& text) {
  auto made = CompileLark(grammar);
  EXPECT_TRUE(made.ok()) << made.status() << grammar;
  if (!made.ok()) return false;
  Matcher matcher(std::make_shared<const Grammar>(*std::move(made)));
  return matcher.Accept(text) && matcher.finished();
}

TEST(Lark, ReadsACalculator) {
  const char* calculator = R"lark(
      // The one of every tutorial.
      ?start: sum
            | NAME "=" sum      -> assign_var
      ?sum: product
          | sum "+" product     -> add
          | sum "-" product     -> sub
      ?product: atom
          | product "*" atom    -> mul
          | product "/" atom    -> div
      ?atom: NUMBER             -> number
           | "-" atom           -> neg
           | NAME               -> var
           | "(" sum ")"
      %import common.CNAME -> NAME
      %import common.NUMBER
      %import common.WS_INLINE
      %ignore WS_INLINE
  )lark";
  for (const char* good : {"1+2*3", "x = -(4.5e3 - y_1) / 2", " 1 ", "a", "---1"})
    EXPECT_TRUE(LarkMatches(calculator, good)) << good;
  for (const char* bad : {"", "1+", "1 2", "(1", "x = = 1", "1\n", "2x"})
    EXPECT_FALSE(LarkMatches(calculator, bad)) << bad;
}

TEST(Lark, ReadsJson) {
  const char* json = R"lark(
      start: value
      value: dict | list | ESCAPED_STRING | SIGNED_NUMBER | "true" | "false" | "null"
      list : "[" [value ("," value)*] "]"
      dict : "{" [pair ("," pair)*] "}"
      pair : ESCAPED_STRING ":" value
      %import common (ESCAPED_STRING, SIGNED_NUMBER, WS)
      %ignore WS
  )lark";
  for (const char* good : {"{\"a\": [1, -2.5e3, {}], \"b\\\"c\":null}", "[]", "[ ]", " \"x\" "})
    EXPECT_TRUE(LarkMatches(json, good)) << good;
  for (const char* bad : {"{a: 1}", "[1,]", "{\"a\" 1}", "\"a"})
    EXPECT_FALSE(LarkMatches(json, bad)) << bad;
}

TEST(Lark, HasWhatTheNotationHas) {
  EXPECT_TRUE(LarkMatches("start: \"select\"i / [a-z]+/", "SeLeCT abc"));
  EXPECT_FALSE(LarkMatches("start: \"select\" / [a-z]+/", "SELECT abc"));
  EXPECT_TRUE(LarkMatches("start: A~2..3 B ~ 2\nA: \"a\"..\"c\"\nB.2: /\\//", "abc//"));
  EXPECT_FALSE(LarkMatches("start: A~2..3\nA: \"a\"..\"c\"", "abca"));
  EXPECT_TRUE(LarkMatches("start: [\"a\"] \"b\"? (\"c\" | \"d\")+ # or\n", "cd"));
  EXPECT_TRUE(LarkMatches("start: T\nT: (\"a\" | U)+\nU: \"\\u00e9\" \"\\n\"", "aé\na"));
  // Nothing is ignored inside a terminal.
  EXPECT_FALSE(LarkMatches("start: T\nT: \"a\" \"b\"\n%ignore \" \"", "a b"));
  EXPECT_TRUE(LarkMatches("start: \"a\" \"b\"\n%ignore \" \"\n%ignore /#[^\\n]*\\n/", "a #x\n  b"));
  EXPECT_TRUE(LarkMatches("start: w (\",\" w)*\nw: /[^,\\n]+/", "中文,x"));
}

TEST(Lark, RegularExpressionsHaveFlags) {
  EXPECT_TRUE(LarkMatches("start: /select [a-c]\\x78/i", "SeLeCT BX"));
  EXPECT_FALSE(LarkMatches("start: /select/", "SELECT"));
  EXPECT_FALSE(LarkMatches("start: /[^a]/i", "A"));
  EXPECT_FALSE(LarkMatches("start: /[^A]/i", "a"));
  EXPECT_TRUE(LarkMatches("start: /[^a]/i", "b"));
  EXPECT_TRUE(LarkMatches("start: /[^a]/", "A"));
  EXPECT_TRUE(LarkMatches("start: /[@\\[`{]{4}/i", "@[`{"));
  EXPECT_FALSE(LarkMatches("start: /[@\\[`{]/i", "A"));
  EXPECT_FALSE(LarkMatches("start: /é/i", "É"));  // ASCII, as strings
  EXPECT_TRUE(LarkMatches("start: /a.b/s", "a\nb"));
  EXPECT_FALSE(LarkMatches("start: /a.b/s", "A\nb"));
  EXPECT_FALSE(LarkMatches("start: /a.b/i", "a\nb"));
  EXPECT_TRUE(LarkMatches("start: T \"c\"\nT: /a.b/sui", "A\nBc"));
}

TEST(Lark, IsToldFromGbnfByTheFirstStatement) {
  for (const char* lark :
       {"start: \"::=\"", "// a ::= b\nstart: x\nx: \"a ::= b\"", "# a ::= b\nstart: \"x\"",
        "%ignore \"::=\"\nstart: \"x\"", "?start.2: \"a\" // ::=", ""}) {
    EXPECT_EQ(FormOfGrammar(lark), GrammarSpec::Form::kLark) << lark;
  }
  for (const char* gbnf : {"root ::= \"a\"", "# a: b\nroot ::= \":\"", "root\t::= [:] # c: d",
                           "\n\n  # start: x\r\nroot::=\"%\""}) {
    EXPECT_EQ(FormOfGrammar(gbnf), GrammarSpec::Form::kGbnf) << gbnf;
  }
}

TEST(Lark, SaysWhereItIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no rule called start"},
      {"start \"a\"", "line 1, column 7: expected :"},
      {"start: other", "rule other is not defined"},
      {"start: \"a\"\nstart: \"b\"", "twice"},
      {"start: (\"a\"", "expected )"},
      {"start: [\"a\"", "expected ]"},
      {"start: \"a\" )", "end of the line"},
      {"start: T\nT: rule\nrule: \"a\"", "a terminal cannot hold the rule rule"},
      {"start: \"b\"..\"a\"", "range"},
      {"start: \"a\"~3..2", "out of order"},
      {"start: a\na: /a/im", "line 2, column 8: regular expressions with the flag m"},
      {"start: /a/x", "line 1, column 11: regular expressions with the flag x"},
      {"start: b\nb: /(a)\\1/", "line 2, column 11: a back reference"},
      {"start: /(x{900}){900}/", "line 1, column 23: "},
      {"start: /a", "does not end"},
      {"start: /(a/", "line"},
      {"start: t{x}\nt{y}: y", "line 1, column 9: templates are not supported: t"},
      {"start: a\nt{y}: y", "line 2, column 2: templates are not supported: t"},
      {"start: X\n%declare X", "line 2, column 9: the directive %declare"},
      {"%import python.NAME\nstart: NAME", "line 1, column 15: only the library common"},
      {"%import common.NOTHING\nstart: NOTHING", "has no NOTHING"},
      {"start: a\na: b \"x\" | \"y\"\nb: a | \"z\"", "left recursion"},
      {"start: \"a\" ->", "expected a name"},
  };
  for (const auto& [text, message] : cases) {
    const auto made = CompileLark(text);
    ASSERT_FALSE(made.ok()) << text;
    EXPECT_THAT(std::string(made.status().message()), testing::HasSubstr(message)) << text;
  }
}

}  // namespace
}  // namespace penstock::grammar
