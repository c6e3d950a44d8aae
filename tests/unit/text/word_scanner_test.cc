// The scanners against the regular expressions that they stand for.
#include "text/word_scanner.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/regex.h"
#include "gtest/gtest.h"
#include "text/split_patterns.h"

namespace penstock {
namespace {

std::string RandomText(std::mt19937& random) {
  static const std::vector<std::string> kParts = {" ",
                                                  "  ",
                                                  "\n",
                                                  "\r\n",
                                                  "\t",
                                                  "a",
                                                  "Z",
                                                  "the",
                                                  "HTTP",
                                                  "'s",
                                                  "'S",
                                                  "'ll",
                                                  "'Re",
                                                  "'",
                                                  "1",
                                                  "23",
                                                  "4567",
                                                  ".",
                                                  "?!",
                                                  "/",
                                                  "\u00E9",
                                                  "\u0301",
                                                  "\u0301\u0302",
                                                  "\u65E5\u672C",
                                                  "\u01C5",
                                                  "\u02B0",
                                                  "\u00BD",
                                                  "\u2167",
                                                  "\u3000",
                                                  "\u00A0",
                                                  "\U0001F600",
                                                  "'\u017F",
                                                  "\u017F",
                                                  "_",
                                                  "\u0660",
                                                  "\u200D",
                                                  "\u0915\u094D\u0937",
                                                  "\u1E9E",
                                                  "<|",
                                                  "\x01",
                                                  "\u0085",
                                                  "\u2028"};
  std::string text;
  for (size_t n = random() % 12 + 1; n > 0; --n) text += kParts[random() % kParts.size()];
  return text;
}

TEST(WordScanner, CutsRandomTextsAsTheRegularExpressionDoes) {
  using namespace split_patterns;
  std::mt19937 random(7);
  for (const std::string_view pattern :
       {kGpt2, kLlama3, kQwen2, kQwen35, kCl100k, kO200k, kTekken}) {
    const std::optional<WordScanner> scanner = WordScanner::Find(pattern);
    ASSERT_TRUE(scanner.has_value()) << pattern;
    const absl::StatusOr<Regex> regex = Regex::Compile(pattern);
    ASSERT_TRUE(regex.ok()) << regex.status();
    for (int round = 0; round < 20000; ++round) {
      const std::string text = RandomText(random);
      size_t pos = 0;
      regex->ForEach(text, [&](size_t begin, size_t end) {
        ASSERT_EQ(begin, pos) << pattern << "\n" << text;
        ASSERT_EQ(scanner->End(text, begin), end) << pattern << "\n" << text << "\nat " << begin;
        pos = end;
      });
      ASSERT_EQ(pos, text.size()) << pattern << "\n" << text;
    }
  }
  EXPECT_FALSE(WordScanner::Find("\\w+").has_value());
}

}  // namespace
}  // namespace penstock
