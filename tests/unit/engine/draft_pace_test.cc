#include "engine/draft_pace.h"

#include <gtest/gtest.h>

#include <vector>

namespace penstock {
namespace {

constexpr int32_t kMostGuesses = 6;

/// Runs steps of `n` sequences that take `seconds(k)`; how often each k was chosen of the last 200.
template <class Seconds>
std::vector<int> Chosen(DraftPace& pace, int n, double rate, Seconds seconds, int steps = 1000) {
  std::vector<int> counts(kMostGuesses + 1);
  const std::vector<double> rates(n, rate);
  for (int i = 0; i < steps; ++i) {
    const int32_t k = pace.Choose(rates, /*with_prompts=*/false);
    if (i >= steps - 200) ++counts[k];
    pace.ObserveStep(n, k, seconds(k));
  }
  return counts;
}

TEST(DraftPace, GuessesAsManyAsPay) {
  DraftPace sure(kMostGuesses);
  EXPECT_GT(Chosen(sure, 1, 0.95, [](int k) { return 1 + 0.1 * k; })[kMostGuesses], 150);
  EXPECT_TRUE(sure.pays());
  // Each guess costs a third of a step and is right every second time: (1 + 0.5) / 1.33 is most.
  DraftPace fair(kMostGuesses);
  EXPECT_GT(Chosen(fair, 1, 0.5, [](int k) { return 1 + 0.33 * k; })[1], 150);
}

TEST(DraftPace, GuessesNothingWhereThatCostsTimeButTriesNowAndThen) {
  DraftPace pace(kMostGuesses);
  const std::vector<int> counts = Chosen(pace, 16, 0.3, [](int k) { return 1 + 0.5 * k; });
  EXPECT_GT(counts[0], 190);
  EXPECT_FALSE(pace.pays());
  // Then they become cheap.
  EXPECT_GT(Chosen(
                pace, 16, 0.9, [](int k) { return 1 + 0.05 * k; }, 20000)[kMostGuesses],
            150);
  EXPECT_TRUE(pace.pays());
}

TEST(DraftPace, LeavesGuessesOutNowAndThenToKnowWhatTheySave) {
  DraftPace pace(kMostGuesses);
  const std::vector<int> counts = Chosen(pace, 1, 0.9, [](int k) { return 1 + 0.1 * k; });
  EXPECT_GE(counts[0], 3);
  EXPECT_LE(counts[0], 12);
}

TEST(DraftPace, BesidePromptsGuessesOnlyWhatWasSeenToPay) {
  DraftPace pace(kMostGuesses);
  const std::vector<double> rates(16, 0.9);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(pace.Choose(rates, true), 0);
  Chosen(pace, 16, 0.9, [](int k) { return 1 + 0.05 * k; });
  for (int i = 0; i < 1000; ++i) EXPECT_GT(pace.Choose(rates, true), 0);
  DraftPace dear(kMostGuesses);
  Chosen(dear, 16, 0.3, [](int k) { return 1 + 0.5 * k; });
  const std::vector<double> low(16, 0.3);
  for (int i = 0; i < 10000; ++i) EXPECT_EQ(dear.Choose(low, true), 0);
}

TEST(DraftPace, LearnsHowOftenGuessesAreRight) {
  DraftPace pace(kMostGuesses);
  double rate = pace.start_rate();
  for (int i = 0; i < 100; ++i) pace.ObserveGuesses(4, 4, rate);
  EXPECT_GT(rate, 0.95);
  EXPECT_GT(pace.start_rate(), 0.9);
  for (int i = 0; i < 100; ++i) pace.ObserveGuesses(4, 0, rate);
  EXPECT_LT(rate, 0.05);
  for (int i = 0; i < 200; ++i) pace.ObserveGuesses(1, i % 2, rate);
  EXPECT_NEAR(rate, 0.5, 0.1);
}

}  // namespace
}  // namespace penstock
