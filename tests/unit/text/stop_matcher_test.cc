#include "text/stop_matcher.h"

#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

struct Outcome {
  std::string text;
  std::string matched;  // empty: none
  friend bool operator==(const Outcome&, const Outcome&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Outcome& o) {
    return out << '"' << o.text << "\" matched \"" << o.matched << '"';
  }
};

Outcome RunPieces(const std::vector<std::string>& stops, bool include,
                  const std::vector<std::string_view>& pieces) {
  StopMatcher matcher(stops, include);
  Outcome outcome;
  for (const std::string_view piece : pieces) {
    StopMatcher::Step step = matcher.Append(piece);
    outcome.text += step.emit;
    if (step.matched) {
      outcome.matched = *step.matched;
      return outcome;
    }
  }
  outcome.text += matcher.Finish();
  return outcome;
}

// Every way to cut `text` into pieces must give the same.
void ExpectForEverySplit(const std::vector<std::string>& stops, bool include, std::string_view text,
                         const Outcome& expected) {
  ASSERT_LE(text.size(), 14u);
  for (uint32_t cuts = 0; cuts < (1u << (text.size() - 1)); ++cuts) {
    std::vector<std::string_view> pieces;
    size_t begin = 0;
    for (size_t i = 1; i <= text.size(); ++i) {
      if (i == text.size() || (cuts >> (i - 1) & 1) != 0) {
        pieces.push_back(text.substr(begin, i - begin));
        begin = i;
      }
    }
    ASSERT_EQ(RunPieces(stops, include, pieces), expected) << "cuts " << cuts;
  }
}

TEST(StopMatcher, FindsAStopStringAcrossEveryPieceBorder) {
  ExpectForEverySplit({"STOP"}, false, "ab STOP cd", {"ab ", "STOP"});
  ExpectForEverySplit({"STOP"}, true, "ab STOP cd", {"ab STOP", "STOP"});
}

TEST(StopMatcher, GivesBackWhatOnlyLookedLikeAStop) {
  ExpectForEverySplit({"</end>"}, false, "a</en</en", {"a</en</en", ""});
}

TEST(StopMatcher, HandlesPrefixesThatOverlapThemselves) {
  ExpectForEverySplit({"aab"}, false, "aaaab!", {"aa", "aab"});
  ExpectForEverySplit({"abab"}, false, "abaabab", {"aba", "abab"});
}

TEST(StopMatcher, TheFirstToBeCompleteWins) {
  ExpectForEverySplit({"abcd", "c"}, false, "xabcd", {"xab", "c"});
  ExpectForEverySplit({"ab", "abc"}, false, "xabc", {"x", "ab"});
  ExpectForEverySplit({"bcd", "abcd"}, false, "xabcd", {"x", "abcd"});
}

TEST(StopMatcher, HoldsBackNoMoreThanMayBecomeAStop) {
  StopMatcher matcher({"\n\n", "END"}, false);
  EXPECT_EQ(matcher.Append("hello\n").emit, "hello");
  EXPECT_EQ(matcher.Append("E").emit, "\n");
  EXPECT_EQ(matcher.Append("N").emit, "");
  EXPECT_EQ(matcher.Append("x").emit, "ENx");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcher, WithoutStopsLetsEverythingPass) {
  EXPECT_EQ(RunPieces({}, false, {"a", "", "b"}), (Outcome{"ab", ""}));
  EXPECT_EQ(RunPieces({""}, false, {"a", "b"}), (Outcome{"ab", ""}))
      << "an empty stop string is none";
}

TEST(StopMatcher, MatchesBytesOfMultiByteText) {
  ExpectForEverySplit({"\u20AC"}, false, "1\u00A2 2\u20AC 3", {"1\u00A2 2", "\u20AC"});
}

}  // namespace
}  // namespace penstock
