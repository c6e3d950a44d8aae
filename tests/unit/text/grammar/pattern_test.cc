// Expressions of ECMAScript, formats, and numbers as languages.
#include "text/grammar/pattern.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test_seed.h"
#include "text/grammar/formats.h"
#include "text/grammar/number_language.h"

namespace penstock::grammar {
namespace {

struct PatternCase {
  const char* pattern;
  std::vector<std::string> yes, no;
};

class PatternTest : public testing::TestWithParam<PatternCase> {};

TEST_P(PatternTest, SearchesAsEcmaScriptDoes) {
  const auto made = CompilePattern(GetParam().pattern, PatternUse::kSearch);
  ASSERT_TRUE(made.ok()) << made.status();
  for (const std::string& text : GetParam().yes)
    EXPECT_TRUE(made->Matches(ToCodePoints(text))) << GetParam().pattern << " on " << text;
  for (const std::string& text : GetParam().no)
    EXPECT_FALSE(made->Matches(ToCodePoints(text))) << GetParam().pattern << " on " << text;
}

INSTANTIATE_TEST_SUITE_P(
    Patterns, PatternTest,
    testing::Values(PatternCase{"", {"", "x"}, {}}, PatternCase{"a", {"a", "xax"}, {"", "b"}},
                    PatternCase{"^a|b$", {"ax", "xb", "a", "b"}, {"xa", "bx"}},
                    PatternCase{"^$", {""}, {"a"}},
                    PatternCase{"(^a|c)b", {"ab", "xcb", "cb"}, {"xab"}},
                    PatternCase{"^(a*)*$", {"", "aa"}, {"b"}},
                    PatternCase{"^a{2,3}$", {"aa", "aaa"}, {"a", "aaaa"}},
                    PatternCase{"^a{0}$", {""}, {"a"}},
                    PatternCase{"^a{,2}$", {"a{,2}"}, {"a", "aa"}},
                    PatternCase{"^.$", {"a", "\u00e9", "\U0001F600"}, {"\n", "", "ab"}},
                    PatternCase{"^[^a-c]$", {"d", "\n"}, {"a", "c", ""}},
                    PatternCase{"^[a\\-z]$", {"a", "-", "z"}, {"b"}},
                    PatternCase{"^[\\w.-]+$", {"a.b-c"}, {"a b"}},
                    PatternCase{"^\\d+\\s\\D$", {"12 x"}, {"12x", "1 2"}},
                    PatternCase{"^\\u00e9\\x41\\n$",
                                {"\u00e9"
                                 "A\n"},
                                {"eA\n"}},
                    PatternCase{"^\\u{1F600}$", {"\U0001F600"}, {"x"}},
                    PatternCase{"^\\ud83d\\ude00$", {"\U0001F600"}, {"x"}},
                    PatternCase{"^\\p{Lu}\\P{Lu}$",
                                {"\u00c4"
                                 "b"},
                                {"aB", "AB"}},
                    PatternCase{"^(?:ab)+?$", {"ab", "abab"}, {"aba"}},
                    PatternCase{"^(?<year>\\d{4})$", {"2020"}, {"20"}},
                    PatternCase{"^(?!ab)[a-c]+$", {"ac", "ba"}, {"ab", "abc"}},
                    PatternCase{"^(?=.*b)(?=.*a)[abc]+$", {"ab", "cba"}, {"aa", "bc"}},
                    PatternCase{"\\.\\$\\/", {"a.$/"}, {"a$/"}}));

TEST(Pattern, RefusesWhatItCannotKeep) {
  for (const char* pattern : {"(a)\\1", "a(?=b)", "(?<=a)b", "\\bword", "(a", "a)", "[a", "*a",
                              "a**", "[z-a]", "\\", "a{3,2}", "\\p{Nothing}", "\\q"}) {
    EXPECT_FALSE(CompilePattern(pattern, PatternUse::kSearch).ok()) << pattern;
  }
  EXPECT_EQ(CompilePattern("(x{900}){900}", PatternUse::kWhole).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CompilePattern("(a|b)*a(a|b){25}", PatternUse::kWhole).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(Format, KnowsGoodFromBad) {
  const std::vector<std::tuple<const char*, std::vector<const char*>, std::vector<const char*>>>
      all = {
          {"date",
           {"2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01", "0004-02-29"},
           {"2023-02-29", "1900-02-29", "2024-04-31", "2024-1-01", "0000-01-01", "0000-02-29"}},
          {"time",
           {"12:00:00Z", "23:59:59.5+01:30", "23:59:60Z", "23:59:60.5+00:00"},
           {"24:00:00Z", "12:00:00", "12:60:00Z", "12:00:60Z", "23:59:60+01:30"}},
          {"date-time",
           {"2024-01-01T00:00:00Z", "2024-01-01t12:30:00.25-08:00"},
           {"2024-01-01", "2024-13-01T00:00:00Z"}},
          {"email",
           {"a@b.com", "a.b+c@d-e.org", "\"a b\"@c.de"},
           {"a", "@b", "a@", "a..b@c.de", "a@-b.com"}},
          {"uuid",
           {"123e4567-e89b-12d3-a456-426614174000"},
           {"123e4567e89b12d3a456426614174000", "g23e4567-e89b-12d3-a456-426614174000"}},
          {"uri",
           {"http://a.b/c?d#e", "urn:x:y", "mailto:a@b.c", "http://[::1]:80/", "file:///x"},
           {"a/b", "http://a b", "//x", "1:x", "http://%zz"}},
          {"uri-reference", {"a/b", "//x/y", "?q", "", "http://a"}, {"a b", "%zz"}},
          {"ipv4", {"0.0.0.0", "255.249.10.1"}, {"256.0.0.1", "1.2.3", "01.2.3.4"}},
          {"ipv6",
           {"::", "::1", "1:2:3:4:5:6:7:8", "1::8", "::ffff:1.2.3.4", "1:2:3:4:5:6:7::"},
           {":", "1:2", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9"}},
          {"hostname", {"a", "a-b.example.com", "1.2"}, {"", "-a", "a-", "a..b", "a_b"}},
          {"duration", {"P1Y2M3DT4H5M6S", "PT5M", "P2W"}, {"P", "PT", "1Y", "P1S"}},
          {"json-pointer", {"", "/a/~0~1"}, {"a", "/~2"}},
      };
  for (const auto& [name, good, bad] : all) {
    const CharAutomaton* format = FindFormat(name);
    ASSERT_NE(format, nullptr) << name;
    for (const char* text : good)
      EXPECT_TRUE(format->Matches(ToCodePoints(text))) << name << ' ' << text;
    for (const char* text : bad)
      EXPECT_FALSE(format->Matches(ToCodePoints(text))) << name << ' ' << text;
  }
  EXPECT_EQ(FindFormat("no such format"), nullptr);
  EXPECT_THAT(RemarkOnFormat("no such format"), testing::HasSubstr("no such format"));
  for (const char* known : {"date", "regex"}) EXPECT_EQ(RemarkOnFormat(known), "") << known;
}

/// Numbers written in every way without exponent, in hundredths from -1200 to 1200.
std::vector<std::pair<std::string, int>> ManyNumbers() {
  std::vector<std::pair<std::string, int>> out;
  for (int n = -1200; n <= 1200; ++n) {
    const int size = std::abs(n);
    const std::string sign = n < 0 ? "-" : "";
    const std::string fraction{static_cast<char>('0' + size / 10 % 10),
                               static_cast<char>('0' + size % 10)};
    const std::string whole = sign + std::to_string(size / 100);
    out.emplace_back(whole + "." + fraction, n);
    out.emplace_back(whole + "." + fraction + "0", n);
    if (size % 10 == 0) out.emplace_back(whole + "." + fraction.substr(0, 1), n);
    if (size % 100 == 0) out.emplace_back(whole, n);
  }
  return out;
}

TEST(NumberLanguage, ComparesAsNumbersDo) {
  const auto numbers = ManyNumbers();
  for (const auto& [text, hundredths] :
       std::vector<std::pair<std::string, int>>{{"0", 0},
                                                {"5", 500},
                                                {"-5", -500},
                                                {"10", 1000},
                                                {"9.9", 990},
                                                {"-0.05", -5},
                                                {"0.5", 50},
                                                {"1e1", 1000},
                                                {"-1.25e0", -125}}) {
    const Decimal x = *ParseDecimal(text);
    for (const bool equal : {false, true}) {
      const CharAutomaton above = NumbersAbove(x, equal), below = NumbersBelow(x, equal);
      for (const auto& [number, value] : numbers) {
        const std::u32string read = ToCodePoints(number);
        ASSERT_EQ(above.Matches(read), value > hundredths || (equal && value == hundredths))
            << number << " above " << text;
        ASSERT_EQ(below.Matches(read), value < hundredths || (equal && value == hundredths))
            << number << " below " << text;
      }
    }
    for (const auto& [number, value] : numbers)
      ASSERT_EQ(NumbersEqual(x).Matches(ToCodePoints(number)), value == hundredths)
          << number << " is " << text;
  }
  for (const auto& [divisor, hundredths] : std::vector<std::pair<std::string, int>>{
           {"3", 300}, {"10", 1000}, {"0.25", 25}, {"0.01", 1}, {"1.5", 150}}) {
    const auto multiples = MultiplesOf(*ParseDecimal(divisor));
    ASSERT_TRUE(multiples.ok());
    for (const auto& [number, value] : numbers)
      ASSERT_EQ(multiples->Matches(ToCodePoints(number)), value % hundredths == 0)
          << number << " by " << divisor;
  }
}

TEST(NumberLanguage, DividesByWhatEndsInZeros) {
  std::mt19937 random(TestSeed());
  for (const int64_t divisor : {10, 20, 100, 120, 1000, 2500, 3600, 86400, 5000000}) {
    const auto multiples = MultiplesOf(*ParseDecimal(absl::StrCat(divisor)));
    ASSERT_TRUE(multiples.ok()) << divisor << ": " << multiples.status();
    for (int i = 0; i < 4000; ++i) {
      int64_t number = static_cast<int64_t>(random() % 2000);
      if (i % 2 == 0) number *= divisor;
      if (i % 4 == 0) number += i % 3 == 0 ? divisor / 10 : 10;
      if (i % 5 == 0) number = -number;
      for (const char* fraction : {"", ".0", ".00", ".1"}) {
        const bool is = number % divisor == 0 && std::string_view(fraction) != ".1";
        const std::string text = absl::StrCat(number, fraction);
        ASSERT_EQ(multiples->Matches(ToCodePoints(text)), is) << text << " by " << divisor;
      }
    }
  }
  EXPECT_FALSE(MultiplesOf(*ParseDecimal("5001")).ok());
}

TEST(NumberLanguage, KnowsTheFormsOfJson) {
  for (const char* good : {"0", "-0", "-12.50", "1e5", "1.5E-10", "1E+2"})
    EXPECT_TRUE(AnyNumber().Matches(ToCodePoints(good))) << good;
  for (const char* bad : {"", "-", "01", "1.", ".5", "1e", "+1", "1e+", "--1"}) {
    EXPECT_FALSE(AnyNumber().Matches(ToCodePoints(bad))) << bad;
    EXPECT_FALSE(NumbersAbove(*ParseDecimal("-5"), true).Matches(ToCodePoints(bad))) << bad;
  }
}

TEST(CharAutomaton, IsABooleanAlgebra) {
  const CharAutomaton words = CharAutomaton::Words({U"a", U"ab", U"", U"\u00e9"});
  const CharAutomaton two = CharAutomaton::Length(2, 2);
  EXPECT_TRUE(words.Matches(U""));
  EXPECT_FALSE(words.Not().Matches(U"ab"));
  EXPECT_TRUE(words.Not().Matches(U"abc"));
  EXPECT_TRUE(CharAutomaton::And(words, two)->Matches(U"ab"));
  EXPECT_FALSE(CharAutomaton::And(words, two)->Matches(U"a"));
  EXPECT_TRUE(CharAutomaton::Or(words, two)->Matches(U"xy"));
  EXPECT_TRUE(CharAutomaton::Or(words, words.Not())->IsAll());
  EXPECT_TRUE(CharAutomaton::And(words, words.Not())->empty());
  EXPECT_EQ(CharAutomaton::Length(3, 3).Minimized().num_states(), 4);
}

}  // namespace
}  // namespace penstock::grammar
