#include "engine/step_budget.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr int32_t kMost = 512;

TEST(StepBudget, WithoutATargetPromptsTakeWhatIsLeft) {
  StepCosts costs;
  StepBudget budget(absl::ZeroDuration(), &costs);
  budget.Observe(0, 100, 10.0);
  EXPECT_EQ(budget.PromptPositions(4, 1, kMost), kMost);
  EXPECT_EQ(budget.PromptPositions(4, 1, 7), 7);
}

TEST(StepBudget, BeginsSmallAndLearnsWhatFitsBesideStreams) {
  StepCosts costs;
  StepBudget budget(absl::Milliseconds(100), &costs);
  EXPECT_EQ(budget.PromptPositions(0, 1, kMost), 64);
  EXPECT_EQ(budget.PromptPositions(0, 1, 40), 40);
  for (int32_t rows = 1; rows <= 64; ++rows) costs.Observe(rows, 0.020 + 0.001 * rows);
  for (int i = 0; i < 20; ++i) budget.Observe(4, 64, 0.024 + 64 * 0.001);
  // 100 ms - 24 ms leave 76 positions of 1 ms; alone 400.
  EXPECT_EQ(budget.PromptPositions(4, 1, kMost), 64);
  EXPECT_EQ(budget.PromptPositions(0, 1, kMost), 400);
  EXPECT_EQ(budget.PromptPositions(40, 1, kMost), 32);
  EXPECT_EQ(budget.PromptPositions(40, 1, 20), 20);
  // A prompt in wait for four streams: twice the target, 176 positions; at most four times.
  EXPECT_EQ(budget.PromptPositions(4, 2, kMost), 176);
  EXPECT_EQ(budget.PromptPositions(4, 100, kMost), 368);
}

TEST(StepBudget, PromptsGoOnWhereStreamsAloneTakeTooLong) {
  StepCosts costs;
  StepBudget budget(absl::Milliseconds(100), &costs);
  costs.Observe(16, 0.5);
  budget.Observe(16, 16, 0.7);
  EXPECT_EQ(budget.PromptPositions(16, 1, kMost), 16);
}

TEST(StepBudget, FollowsWhatStepsTakeButNotOneOfThem) {
  StepCosts costs;
  StepBudget budget(absl::Milliseconds(100), &costs);
  costs.Observe(1, 0.020);
  for (int i = 0; i < 20; ++i) budget.Observe(1, 64, 0.020 + 64 * 0.001);
  EXPECT_EQ(budget.PromptPositions(1, 1, kMost), 80);
  budget.Observe(1, 64, 5.0);
  EXPECT_GE(budget.PromptPositions(1, 1, kMost), 48);
  for (int i = 0; i < 40; ++i) budget.Observe(1, 64, 0.020 + 64 * 0.0002);
  EXPECT_GE(budget.PromptPositions(1, 1, kMost), 384);
}

}  // namespace
}  // namespace penstock
