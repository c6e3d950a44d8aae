#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace penstock {
namespace {

RopeConfig OfDim(int32_t dim) {
  RopeConfig rope;
  rope.rotary_dim = dim;
  return rope;
}

TEST(Rope, TurnsPairIByThetaToTheMinus2IOverDim) {
  const std::vector<float> f = RopeFrequencies(OfDim(8));
  ASSERT_EQ(f.size(), 4u);
  EXPECT_FLOAT_EQ(f[0], 1.0f);
  EXPECT_FLOAT_EQ(f[1], 0.1f);
  EXPECT_FLOAT_EQ(f[3], 0.001f);
}

TEST(Rope, TableHoldsCosinesThenSines) {
  const std::vector<float> table = RopeTable(OfDim(4), 3);
  ASSERT_EQ(table.size(), 12u);
  EXPECT_FLOAT_EQ(table[8], std::cos(2.0f));
  EXPECT_FLOAT_EQ(table[9], std::cos(0.02f));
  EXPECT_FLOAT_EQ(table[10], std::sin(2.0f));
  EXPECT_FLOAT_EQ(table[11], std::sin(0.02f));
}

TEST(Rope, LinearDividesEveryFrequency) {
  RopeConfig rope = OfDim(8);
  rope.type = RopeType::kLinear;
  rope.factor = 4;
  EXPECT_FLOAT_EQ(RopeFrequencies(rope)[1], 0.025f);
}

TEST(Rope, DynamicLeavesTheTrainedContextAlone) {
  RopeConfig rope = OfDim(8);
  rope.type = RopeType::kDynamic;
  rope.factor = 4;
  EXPECT_EQ(RopeFrequencies(rope), RopeFrequencies(OfDim(8)));
}

TEST(Rope, Llama3SlowsLongWavesOnly) {
  RopeConfig rope = OfDim(128);
  rope.type = RopeType::kLlama3;
  rope.theta = 500000;
  rope.factor = 8;
  rope.original_max_positions = 8192;
  RopeConfig plain = OfDim(128);
  plain.theta = 500000;
  const std::vector<float> scaled = RopeFrequencies(rope);
  const std::vector<float> unscaled = RopeFrequencies(plain);
  EXPECT_EQ(scaled.front(), unscaled.front());
  EXPECT_FLOAT_EQ(scaled.back(), unscaled.back() / 8);
  for (size_t i = 0; i < scaled.size(); ++i) {
    EXPECT_LE(scaled[i], unscaled[i]);
    EXPECT_GE(scaled[i], unscaled[i] / 8.0001f);
  }
}

TEST(Rope, YarnKeepsShortWavesSlowsLongOnesAndRaisesTheMagnitude) {
  RopeConfig rope = OfDim(128);
  rope.type = RopeType::kYarn;
  rope.factor = 4;
  rope.original_max_positions = 2048;
  const std::vector<float> scaled = RopeFrequencies(rope);
  const std::vector<float> unscaled = RopeFrequencies(OfDim(128));
  EXPECT_FLOAT_EQ(scaled.front(), unscaled.front());
  EXPECT_FLOAT_EQ(scaled.back(), unscaled.back() / 4);
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), 0.1f * std::log(4.0f) + 1.0f);
  rope.mscale = 1;
  rope.mscale_all_dim = 1;
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), 1.0f);
  rope.attention_factor = 1.25;
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), 1.25f);
}

TEST(Rope, LongRopeHasFactorsWithinAndBeyondTheOriginalContext) {
  RopeConfig rope = OfDim(4);
  rope.type = RopeType::kLongRope;
  rope.original_max_positions = 100;
  rope.factor = 4;
  rope.short_factors = {1, 2};
  rope.long_factors = {4, 8};
  EXPECT_FLOAT_EQ(RopeFrequencies(rope)[1], 0.01f / 2);
  EXPECT_FLOAT_EQ(RopeFrequencies(rope, true)[1], 0.01f / 8);
  EXPECT_EQ(RopeSplit(rope, 100), 0);
  EXPECT_EQ(RopeTable(rope, 100).size(), 400u);
  EXPECT_EQ(RopeSplit(rope, 101), 100);
  EXPECT_EQ(RopeTable(rope, 101).size(), 808u);
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), std::sqrt(1 + std::log(4.0f) / std::log(100.0f)));
}

TEST(Rope, ProportionalLeavesTheLaterPairsAlone) {
  RopeConfig rope = OfDim(8);
  rope.type = RopeType::kProportional;
  rope.rotated_pairs = 1;
  EXPECT_EQ(RopeFrequencies(rope), (std::vector<float>{1, 0, 0, 0}));
}

}  // namespace
}  // namespace penstock
