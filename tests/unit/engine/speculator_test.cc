#include "engine/speculator.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr Hash128 kSomeRoot{1, 2};

/// A sequence that says the same twenty tokens again and again.
class SpeculatorTest : public testing::Test {
 protected:
  SpeculatorTest() : speculator_({.ngram = true, .max_tokens = 8, .min_match = 3}, &costs_) {
    for (int i = 0; i < 100; ++i) tokens_.push_back(i % 20);
  }
  std::vector<TokenId> Propose(int32_t num_sequences = 1, int32_t room = 8,
                               int32_t num_in_flight = 0) {
    speculator_.StartPlan(num_sequences, false);
    return speculator_.Propose(tokens_, 20, num_in_flight, room, state_);
  }
  /// Steps of r rows take seconds(r).
  template <class F>
  void Measure(const F& seconds) {
    for (int i = 0; i < 16; ++i) {
      for (int32_t rows = 1; rows <= 80; ++rows) costs_.Observe(rows, seconds(rows));
    }
  }

  StepCosts costs_;
  Speculator speculator_;
  DraftState state_ = speculator_.MakeState(kSomeRoot);
  std::vector<TokenId> tokens_;
};

TEST_F(SpeculatorTest, GuessesWhatCameNextWhileRowsAreFree) {
  Measure([](int32_t) { return 0.01; });
  EXPECT_EQ(Propose(), (std::vector<TokenId>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(SpeculatorTest, TakesNoMoreThanThereIsRoomFor) {
  Measure([](int32_t) { return 0.01; });
  EXPECT_EQ(Propose(1, 3), (std::vector<TokenId>{0, 1, 2}));
  EXPECT_TRUE(Propose(1, 0).empty());
  EXPECT_TRUE(Propose(1, -1).empty());
}

TEST_F(SpeculatorTest, GuessesBehindWhatIsInFlight) {
  Measure([](int32_t) { return 0.01; });
  EXPECT_EQ(Propose(1, 3, 2), (std::vector<TokenId>{2, 3, 4}));
}

TEST_F(SpeculatorTest, StopsWhereEachRowCostsAsMuchAsAStep) {
  Measure([](int32_t rows) { return 0.01 * rows; });
  EXPECT_TRUE(Propose().empty());
}

TEST_F(SpeculatorTest, StopsWithALargeBatch) {
  // Weights are read once for 16 rows; beyond these, arithmetic is the limit.
  Measure([](int32_t rows) { return 0.01 * std::max(1.0, rows / 16.0); });
  EXPECT_FALSE(Propose(4).empty());
  EXPECT_TRUE(Propose(32).empty());
}

TEST_F(SpeculatorTest, TriesAgainNowAndThenWhereItStopped) {
  Measure([](int32_t rows) { return 0.01 * rows; });
  int num_tried = 0;
  for (int step = 0; step < 1000; ++step) num_tried += Propose().empty() ? 0 : 1;
  EXPECT_GE(num_tried, 2);
  EXPECT_LE(num_tried, 8);  // ever more seldom
}

TEST_F(SpeculatorTest, LeavesADraftOutNowAndThenToKnowWhatItSaves) {
  Measure([](int32_t) { return 0.01; });
  int num_plain = 0;
  for (int step = 0; step < 1000; ++step) num_plain += Propose().empty() ? 1 : 0;
  EXPECT_GE(num_plain, 10);
  EXPECT_LE(num_plain, 20);
}

TEST_F(SpeculatorTest, GivesUpOnASequenceThatDoesNotDoAsItDid) {
  // Each row more makes a step a quarter longer: worth it only for guesses that mostly come true.
  Measure([](int32_t rows) { return 0.01 * (1 + 0.25 * (rows - 1)); });
  EXPECT_FALSE(Propose().empty());
  for (int i = 0; i < 60; ++i) {  // three tokens as before, then another one
    for (const TokenId t : {0, 1, 2, 100 + i}) tokens_.push_back(t);
    Propose();
  }
  for (const TokenId t : {0, 1, 2}) tokens_.push_back(t);
  EXPECT_TRUE(Propose().empty());
}

TEST_F(SpeculatorTest, LearnsFromWhatOthersOfTheRootWereAnswered) {
  Measure([](int32_t) { return 0.01; });
  const std::vector<TokenId> answer = {70, 71, 72, 73, 74, 75, 76};
  speculator_.Remember(kSomeRoot, answer, 0);
  tokens_ = {9, 8, 70, 71, 72};
  state_ = speculator_.MakeState(kSomeRoot);
  speculator_.StartPlan(1, false);
  const auto guesses = speculator_.Propose(tokens_, 2, 0, 2, state_);
  EXPECT_EQ(guesses, (std::vector<TokenId>{73, 74}));
  state_ = speculator_.MakeState(Hash128{1, 3});
  speculator_.StartPlan(1, false);
  EXPECT_TRUE(speculator_.Propose(tokens_, 2, 0, 2, state_).empty());
}

TEST_F(SpeculatorTest, ReadsALongPromptInPieces) {
  Measure([](int32_t) { return 0.01; });
  tokens_.clear();
  for (int i = 0; i < 10000; ++i) tokens_.push_back(i % 5000);
  EXPECT_TRUE(Propose().empty());
  EXPECT_EQ(state_.own.num_seen(), 4096);
  EXPECT_TRUE(Propose().empty());
  EXPECT_EQ(Propose(1, 2), (std::vector<TokenId>{0, 1}));
}

TEST(StepCosts, AveragesInterpolatesAndKeepsOutliersOut) {
  StepCosts costs;
  EXPECT_EQ(costs.Seconds(1), 0);
  for (int i = 0; i < 50; ++i) {
    costs.Observe(1, 0.010);
    costs.Observe(5, 0.018);
  }
  EXPECT_DOUBLE_EQ(costs.Seconds(1), 0.010);
  EXPECT_NEAR(costs.Seconds(3), 0.014, 1e-12);
  EXPECT_DOUBLE_EQ(costs.Seconds(400), 0.018);
  costs.Observe(1, 10.0);
  EXPECT_LT(costs.Seconds(1), 0.012);
  for (int i = 0; i < 100; ++i) costs.Observe(1, 0.02);
  EXPECT_NEAR(costs.Seconds(1), 0.02, 1e-3);  // what is measured now counts
  costs.Observe(1 << 20, 1.0);
  EXPECT_DOUBLE_EQ(costs.Seconds(1 << 20), 1.0);
}

}  // namespace
}  // namespace penstock
