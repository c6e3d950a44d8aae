// GBNF, and the matcher's steps on its grammars.
#include "text/grammar/gbnf.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "text/grammar/matcher.h"

namespace penstock::grammar {
namespace {

std::shared_ptr<const Grammar> MakeGbnf(const char* text) {
  auto made = CompileGbnf(text);
  EXPECT_TRUE(made.ok()) << made.status() << text;
  return std::make_shared<const Grammar>(*std::move(made));
}

bool GbnfMatches(const char* grammar, const std::string& text) {
  Matcher matcher(MakeGbnf(grammar));
  return matcher.Accept(text) && matcher.finished();
}

TEST(Gbnf, ReadsWhatTheNotationHas) {
  const char* arithmetic =
      "# sums\nroot ::= term (sign term)*\nterm ::= number | \"(\" root \")\"\n"
      "number ::= [0-9]+ (\".\" [0-9]{1,2})?\nsign ::= [-+] |\n  \"*\"\n";
  EXPECT_TRUE(GbnfMatches(arithmetic, "1+2.25*(3-4)"));
  EXPECT_FALSE(GbnfMatches(arithmetic, "1+"));
  EXPECT_FALSE(GbnfMatches(arithmetic, "1.255"));
  EXPECT_FALSE(GbnfMatches(arithmetic, "(1"));
  EXPECT_TRUE(GbnfMatches("root ::= \"\\x41\\u00e9\\n\" [^a-c\\]]", "A\u00e9\nd"));
  EXPECT_FALSE(GbnfMatches("root ::= [^a-c\\]]", "]"));
  EXPECT_TRUE(GbnfMatches("root ::= .{3}", "a\u00e9\U0001F600"));
  EXPECT_TRUE(GbnfMatches("root ::= (\"a\"?)* \"b\"", "aab"));
  EXPECT_TRUE(GbnfMatches("root ::= (\"a\"?){2,3} \"b\"", "b"));
  EXPECT_FALSE(GbnfMatches("root ::= (\"a\"?){2,3} \"b\"", "aaaab"));
}

TEST(Gbnf, BlanksStandAroundAndWithinQuantifiers) {
  for (const char* grammar :
       {"root ::= \"a\" * \"b\"", "root ::= [a]\t*  \"b\" # the end", "root ::= (\"a\") * \"b\"",
        "root ::= as * \"b\"\nas ::= \"a\"", "root ::= \"a\" { 0 , } \"b\"",
        "root ::= (\"a\" # as many as one likes\n  * \"b\")", "root ::= (\"a\" {0\n,3} \"b\")"}) {
    for (const char* good : {"b", "ab", "aaab"}) EXPECT_TRUE(GbnfMatches(grammar, good)) << grammar;
    for (const char* bad : {"", "a", "ba"}) EXPECT_FALSE(GbnfMatches(grammar, bad)) << grammar;
  }
  for (const char* grammar :
       {"root ::= \"a\" {1, 3}", "root ::= \"a\"{ 1,3 }", "root ::= \"a\" { 3 } ? | [a] {1,2}",
        "root ::= \"a\" + ? \"\" | [b]\n"}) {
    EXPECT_TRUE(GbnfMatches(grammar, "aaa")) << grammar;
    EXPECT_FALSE(GbnfMatches(grammar, "aaab")) << grammar;
  }
  EXPECT_FALSE(GbnfMatches("root ::= \"a\" { 2 }", "a"));
}

TEST(Gbnf, ADotIsAnyCharacterAndEscapesAreCodePoints) {
  for (const char* any : {"a", "\n", "\r", "\"", "\u2028", "\U0001F600"})
    EXPECT_TRUE(GbnfMatches("root ::= .", any)) << any;
  EXPECT_FALSE(GbnfMatches("root ::= .", ""));
  EXPECT_FALSE(GbnfMatches("root ::= .", "ab"));
  EXPECT_TRUE(GbnfMatches(R"(root ::= "\x4a\u00E9\U0001f600\"\\\t" [\x30-\u0039\U0001F601])",
                          "J\u00e9\U0001F600\"\\\t7"));
  EXPECT_TRUE(GbnfMatches(R"(root ::= [\x30-\u0039\U0001F601])", "\U0001F601"));
  EXPECT_FALSE(GbnfMatches(R"(root ::= [\x30-\u0039\U0001F601])", "a"));
}

TEST(Gbnf, CommentsStandWhereBlanksDo) {
  const char* grammar =
      "# one ::= \"x\"\n\nroot ::= # of two\n  one \"#\" | # or\n  [#] # the sign\n"
      "  # between\none ::= \"1\" # end\n#";
  EXPECT_TRUE(GbnfMatches(grammar, "1#"));
  EXPECT_TRUE(GbnfMatches(grammar, "#"));
  EXPECT_FALSE(GbnfMatches(grammar, "1"));
  EXPECT_FALSE(GbnfMatches(grammar, "x#"));
}

TEST(Gbnf, ARuleMayBeginWithItself) {
  const char* sums = "root ::= root \"+\" [0-9]+ | (root \"-\" [0-9] | [0-9]) | root\n";
  EXPECT_TRUE(GbnfMatches(sums, "1+20-3+4"));
  EXPECT_TRUE(GbnfMatches(sums, "1"));
  EXPECT_FALSE(GbnfMatches(sums, "1+"));
  EXPECT_FALSE(GbnfMatches(sums, "12"));
  EXPECT_FALSE(GbnfMatches(sums, "1-20"));
}

TEST(Gbnf, CountsWithoutLimitOnTheNumber) {
  const char* grammar = "root ::= pair{7,5000} \".\"\npair ::= \"a\" \"b\"?\n";
  const auto made = MakeGbnf(grammar);
  for (const int count : {6, 7, 8, 4999, 5000, 5001}) {
    Matcher matcher(made);
    std::string text;
    for (int i = 0; i < count; ++i) text += i % 2 == 0 ? "a" : "ab";
    EXPECT_EQ(matcher.Accept(text + "."), count >= 7 && count <= 5000) << count;
  }
}

TEST(Gbnf, SaysWhereItIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no rule called root"},
      {"root = \"a\"", "line 1, column 6"},
      {"root ::= \"a", "text ends"},
      {"root ::= other", "rule other is not defined"},
      {"root ::= root \"a\"", "nothing can match"},
      {"root ::= a\na ::= b? a \"x\" | b\nb ::= \"y\"", "left recursion"},
      {"root ::= (\"a\"", "expected )"},
      {"root ::= \"a\"{3,2}", "out of order"},
      {"root ::= \"a\" { 1 ; 3}", "line 1, column 18: expected }"},
      {"root ::= a\na ::= \"a\" { x }", "line 2, column 13: expected a number"},
      {"root ::= \"a\" {1,\n3}", "line 1, column 17: expected a number"},
      {"root ::= * \"a\"", "line 1, column 10: expected a literal"},
      {"# x\nroot ::= \"\\x4\"", "line 2, column 14: a hexadecimal escape is too short"},
      {"root ::= \"\\uD800\"", "line 1, column 17: this is no code point"},
      {"root ::= [z-a]", "out of order"},
      {"root ::= \"a\"\nroot ::= \"b\"", "twice"},
      {"root ::= \"\\q\"", "unknown escape"},
      {"root ::= r\nr ::= \"a\" r", "nothing can match"},
  };
  for (const auto& [text, message] : cases) {
    const auto made = CompileGbnf(text);
    ASSERT_FALSE(made.ok()) << text;
    EXPECT_THAT(std::string(made.status().message()), testing::HasSubstr(message)) << text;
  }
}

TEST(Matcher, TakesStepsBack) {
  Matcher matcher(MakeGbnf("root ::= \"name: \" [a-z]+ \";\" (\"end\" | \"eno\")"));
  EXPECT_TRUE(matcher.Accept("name: a"));
  EXPECT_FALSE(matcher.Accept("b?"));
  EXPECT_TRUE(matcher.Accept("b;"));
  matcher.Rollback(1);
  EXPECT_TRUE(matcher.Accept("c"));
  EXPECT_TRUE(matcher.Accept(";eno"));
  EXPECT_TRUE(matcher.finished());
  EXPECT_TRUE(matcher.ended());
  matcher.Rollback(3);
  EXPECT_EQ(matcher.num_steps(), 0);
}

TEST(Matcher, ManyWaysToReadATextStayFew) {
  Matcher matcher(MakeGbnf("root ::= s\ns ::= (\"a\" s | \"a\" s \"b\" | \"a\")"));
  EXPECT_TRUE(matcher.Accept(std::string(40, 'a')));
  EXPECT_TRUE(matcher.Accept(std::string(39, 'b')));
  EXPECT_TRUE(matcher.finished());
}

}  // namespace
}  // namespace penstock::grammar
