#include "engine/ngram_match.h"

#include <algorithm>
#include <random>

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr Hash128 kRoot{1, 2};
constexpr Hash128 kOtherRoot{1, 3};  // its tables collide with the first's wherever they can

NgramIndex IndexOf(const std::vector<TokenId>& tokens, int32_t min_match) {
  NgramIndex index(min_match);
  while (index.num_seen() < static_cast<int64_t>(tokens.size())) index.Advance(tokens);
  return index;
}

TEST(NgramIndex, FindsNothingInTokensThatAreAllNew) {
  EXPECT_EQ(IndexOf({1, 2, 3, 4, 5, 6}, 2).match().length, 0);
  EXPECT_EQ(IndexOf({}, 2).match().length, 0);
  EXPECT_EQ(IndexOf({1}, 2).match().length, 0);
}

TEST(NgramIndex, PredictsWhatFollowedTheSameTokens) {
  const std::vector<TokenId> tokens = {5, 1, 2, 3, 40, 41, 42, 9, 1, 2, 3};
  const NgramIndex index = IndexOf(tokens, 3);
  EXPECT_EQ(index.match().length, 3);
  EXPECT_EQ(index.Predict(tokens, 0), 40);
  EXPECT_EQ(index.Predict(tokens, 2), 42);
  EXPECT_EQ(IndexOf(tokens, 4).match().length, 0);
}

TEST(NgramIndex, GoesOnWithAMatchAndDropsItWhereTheTokensPart) {
  std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5};
  NgramIndex index = IndexOf(tokens, 2);
  EXPECT_EQ(index.match().length, 5);
  EXPECT_EQ(index.Predict(tokens, 0), 6);
  tokens.push_back(99);
  index.Advance(tokens);
  EXPECT_EQ(index.match().length, 0);
}

TEST(NgramIndex, TakesTheLatestPlace) {
  const std::vector<TokenId> tokens = {1, 2, 10, 1, 2, 20, 7, 1, 2};
  EXPECT_EQ(IndexOf(tokens, 2).Predict(tokens, 0), 20);
}

TEST(NgramIndex, GoesRoundWhereAPredictionReachesTheNewestToken) {
  const std::vector<TokenId> tokens = {1, 2, 3, 1, 2, 3};
  const NgramIndex index = IndexOf(tokens, 3);
  for (int32_t ahead = 0; ahead < 10; ++ahead)
    EXPECT_EQ(index.Predict(tokens, ahead), 1 + ahead % 3);
}

/// Whatever the tables forget, what they answer is true.
TEST(NgramIndex, NeverClaimsAMatchThatIsNotOne) {
  std::mt19937 random(4);
  std::vector<TokenId> tokens;
  NgramIndex index(3);
  int num_matches = 0;
  for (int i = 0; i < 20000; ++i) {
    const size_t copied = tokens.size() < 50 ? 0 : random() % (tokens.size() - 20);
    tokens.push_back(copied > 0 && i % 30 < 20 ? tokens[copied] : TokenId(random() % 40));
    index.Advance(tokens);
    const NgramMatch& match = index.match();
    if (match.length == 0) continue;
    ++num_matches;
    ASSERT_GE(match.length, 3);
    ASSERT_LT(match.next, static_cast<int64_t>(tokens.size()));
    ASSERT_TRUE(std::equal(tokens.end() - match.length, tokens.end(),
                           tokens.begin() + match.next - match.length));
  }
  EXPECT_GT(num_matches, 1000);
}

NgramMatch Follow(const OutputHistory& history, const Hash128& root,
                  const std::vector<TokenId>& tokens) {
  NgramMatch match;
  for (size_t n = 1; n <= tokens.size(); ++n)
    history.Follow(root, absl::MakeSpan(tokens).first(n), match);
  return match;
}

TEST(OutputHistory, FindsWhatAnotherSequenceOfTheRootHasPutOut) {
  OutputHistory history(2, 64);
  EXPECT_EQ(Follow(history, kRoot, {1, 2}).length, 0);
  history.Append(kRoot, {1, 2, 3, 4, 5});
  const NgramMatch match = Follow(history, kRoot, {9, 2, 3});
  EXPECT_EQ(match.length, 2);
  EXPECT_EQ(history.Predict(kRoot, match, 0), 4);
  EXPECT_EQ(history.Predict(kRoot, match, 1), 5);
  EXPECT_EQ(history.Predict(kRoot, match, 2), -1);
}

TEST(OutputHistory, KeepsRootsApart) {
  OutputHistory history(2, 64);
  history.Append(kRoot, {1, 2, 3, 4, 5});
  EXPECT_EQ(Follow(history, kOtherRoot, {1, 2}).length, 0);
  const NgramMatch match = Follow(history, kRoot, {1, 2, 3, 4, 5});
  history.Append(kOtherRoot, {6, 7, 8});
  // What lies behind the end of a root's output is another's.
  EXPECT_EQ(history.Predict(kRoot, match, 0), -1);
  NgramMatch followed = Follow(history, kRoot, {1, 2, 3, 4, 5});
  history.Follow(kRoot, std::vector<TokenId>{1, 2, 3, 4, 5, 6}, followed);
  EXPECT_EQ(followed.length, 0);
}

TEST(OutputHistory, ForgetsTheOldest) {
  OutputHistory history(2, 16);
  history.Append(kRoot, {1, 2, 3, 4});
  const NgramMatch old = Follow(history, kRoot, {1, 2});
  ASSERT_EQ(old.length, 2);
  for (TokenId t = 10; t < 26; t += 4) history.Append(kRoot, {t, t + 1, t + 2, t + 3});
  EXPECT_EQ(Follow(history, kRoot, {1, 2}).length, 0);
  EXPECT_EQ(history.Predict(kRoot, old, 0), -1);
  EXPECT_EQ(Follow(history, kRoot, {22, 23}).length, 2);
}

TEST(OutputHistory, TakesTheEndOfAnOutputThatIsLongerThanItself) {
  OutputHistory history(2, 16);
  std::vector<TokenId> output(100);
  for (TokenId i = 0; i < 100; ++i) output[i] = i;
  history.Append(kRoot, output);
  EXPECT_EQ(Follow(history, kRoot, {50, 51}).length, 0);
  EXPECT_EQ(history.Predict(kRoot, Follow(history, kRoot, {90, 91}), 0), 92);
}

}  // namespace
}  // namespace penstock
