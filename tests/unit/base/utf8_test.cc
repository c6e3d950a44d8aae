#include "base/utf8.h"

#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

using std::string_view_literals::operator""sv;

TEST(Utf8, EveryCodePointSurvivesEncodeAndDecode) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string bytes = EncodeUtf8(c);
    const DecodedCodePoint decoded = DecodeUtf8(bytes, 0);
    ASSERT_TRUE(decoded.valid) << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(decoded.value, c);
    ASSERT_EQ(decoded.length, bytes.size());
    ASSERT_TRUE(IsValidUtf8(bytes));
    ASSERT_EQ(RepairUtf8(bytes), bytes);
  }
}

TEST(Utf8, SurrogatesAndValuesBeyondUnicodeEncodeAsTheReplacement) {
  EXPECT_EQ(EncodeUtf8(0xD800), kReplacementUtf8);
  EXPECT_EQ(EncodeUtf8(0xDFFF), kReplacementUtf8);
  EXPECT_EQ(EncodeUtf8(0x110000), kReplacementUtf8);
}

TEST(Utf8, RepairsEachMaximalInvalidPartToOneReplacement) {
  const struct {
    std::string_view in, out;
  } cases[] = {
      {"", ""},
      {"plain", "plain"},
      {"\x80", "\uFFFD"},
      {"a\xFFz", "a\uFFFDz"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},                      // overlong
      {"\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD"},            // overlong
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},            // surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // beyond U+10FFFF
      {"\xE2\x82", "\uFFFD"},                            // cut short
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xF0\x9F\x98z", "\uFFFDz"},
      {"\xE2\x82\xE2\x82\xAC", "\uFFFD\u20AC"},
      {"long enough for a word\xC3", "long enough for a word\uFFFD"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(RepairUtf8(c.in), c.out);
    EXPECT_TRUE(IsValidUtf8(RepairUtf8(c.in)));
    EXPECT_EQ(IsValidUtf8(c.in), c.in == c.out);
  }
}

TEST(Utf8, KnowsHowManyBytesWaitForTheirRest) {
  EXPECT_EQ(IncompleteUtf8Suffix(""), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("abc"), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xC3"), 1u);
  EXPECT_EQ(IncompleteUtf8Suffix("x\xE2\x82"), 2u);
  EXPECT_EQ(IncompleteUtf8Suffix("x\xF0\x9F\x98"), 3u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xED\xA0"), 0u) << "can never become a code point";
  EXPECT_EQ(IncompleteUtf8Suffix("\xFF"), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xF0\x9F\xE2"), 1u);
}

TEST(Utf8, CutsBetweenCharacters) {
  EXPECT_EQ(Utf8Prefix("abc", 3), "abc");
  EXPECT_EQ(Utf8Prefix("abc", 2), "ab");
  EXPECT_EQ(Utf8Prefix("a\u20ACb", 3), "a");
  EXPECT_EQ(Utf8Prefix("a\u20ACb", 4), "a\u20AC");
  EXPECT_EQ(Utf8Prefix("\U0001F600", 3), "");
  EXPECT_EQ(Utf8Prefix("\xFF\xFF\xFF", 2), "\xFF\xFF");
}

TEST(Utf8, CountsAndConvertsCodePoints) {
  EXPECT_EQ(CountCodePoints("a\u00E9\u20AC\U0001F600"), 4u);
  EXPECT_EQ(CountCodePoints("\xFF\xFF"), 2u);
  EXPECT_EQ(ToCodePoints("a\u20AC"), U"a\u20AC");
  EXPECT_EQ(FromCodePoints(U"a\u20AC\U0001F600"), "a\u20AC\U0001F600");
  EXPECT_EQ(CountCodePoints("a\0b"sv), 3u);
}

}  // namespace
}  // namespace penstock
