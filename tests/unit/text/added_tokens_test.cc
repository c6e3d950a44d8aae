#include "text/added_tokens.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

std::vector<std::pair<std::string, TokenId>> Split(const AddedTokenMatcher& matcher,
                                                   std::string_view text) {
  std::vector<std::pair<std::string, TokenId>> parts;
  for (const AddedTokenSpan& span : matcher.Split(text))
    parts.emplace_back(text.substr(span.begin, span.end - span.begin), span.id.value_or(-1));
  return parts;
}

TEST(AddedTokenMatcher, FindsTheLongestOfTheLeftmost) {
  AddedTokenMatcher matcher;
  matcher.Add("<a>", {.id = 1, .content = "<a>"});
  matcher.Add("<a>b", {.id = 2, .content = "<a>b"});
  using Parts = std::vector<std::pair<std::string, TokenId>>;
  EXPECT_EQ(Split(matcher, "x<a>b<a>"), (Parts{{"x", -1}, {"<a>b", 2}, {"<a>", 1}}));
}

/// A hostile vocabulary may have such: cut there, what is left would be read beyond its end.
TEST(AddedTokenMatcher, NeverCutsACharacter) {
  AddedTokenMatcher matcher;
  for (const char* part : {"\xA9", "\xC3", "\xE2\x82", "a\xC3"})
    matcher.Add(part, {.id = 1, .content = part});
  for (const char* text : {"\xC3\xA9", "a\xC3\xA9", "\xE2\x82\xAC"}) {
    const auto parts = Split(matcher, text);
    ASSERT_EQ(parts.size(), 1u);
    EXPECT_EQ(parts[0].second, -1);
  }
}

}  // namespace
}  // namespace penstock
