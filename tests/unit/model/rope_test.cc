#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace penstock {
namespace {

TEST(Rope, TurnsPairIByThetaToTheMinus2IOverDim) {
  RopeConfig rope;
  const std::vector<float> f = RopeFrequencies(rope, 8);
  ASSERT_EQ(f.size(), 4u);
  EXPECT_FLOAT_EQ(f[0], 1.0f);
  EXPECT_FLOAT_EQ(f[1], 0.1f);
  EXPECT_FLOAT_EQ(f[3], 0.001f);
}

TEST(Rope, TableHoldsCosinesThenSines) {
  const std::vector<float> table = RopeTable(RopeConfig(), 4, 3);
  ASSERT_EQ(table.size(), 12u);
  EXPECT_FLOAT_EQ(table[8], std::cos(2.0f));
  EXPECT_FLOAT_EQ(table[9], std::cos(0.02f));
  EXPECT_FLOAT_EQ(table[10], std::sin(2.0f));
  EXPECT_FLOAT_EQ(table[11], std::sin(0.02f));
}

TEST(Rope, LinearDividesEveryFrequency) {
  RopeConfig rope;
  rope.type = RopeType::kLinear;
  rope.factor = 4;
  EXPECT_FLOAT_EQ(RopeFrequencies(rope, 8)[1], 0.025f);
}

TEST(Rope, DynamicLeavesTheTrainedContextAlone) {
  RopeConfig rope;
  rope.type = RopeType::kDynamic;
  rope.factor = 4;
  EXPECT_EQ(RopeFrequencies(rope, 8), RopeFrequencies(RopeConfig(), 8));
}

TEST(Rope, Llama3SlowsLongWavesOnly) {
  RopeConfig rope;
  rope.type = RopeType::kLlama3;
  rope.theta = 500000;
  rope.factor = 8;
  rope.original_max_positions = 8192;
  RopeConfig plain;
  plain.theta = 500000;
  const std::vector<float> scaled = RopeFrequencies(rope, 128);
  const std::vector<float> unscaled = RopeFrequencies(plain, 128);
  EXPECT_EQ(scaled.front(), unscaled.front());
  EXPECT_FLOAT_EQ(scaled.back(), unscaled.back() / 8);
  for (size_t i = 0; i < scaled.size(); ++i) {
    EXPECT_LE(scaled[i], unscaled[i]);
    EXPECT_GE(scaled[i], unscaled[i] / 8.0001f);
  }
}

TEST(Rope, YarnKeepsShortWavesSlowsLongOnesAndRaisesTheMagnitude) {
  RopeConfig rope;
  rope.type = RopeType::kYarn;
  rope.factor = 4;
  rope.original_max_positions = 2048;
  const std::vector<float> scaled = RopeFrequencies(rope, 128);
  const std::vector<float> unscaled = RopeFrequencies(RopeConfig(), 128);
  EXPECT_FLOAT_EQ(scaled.front(), unscaled.front());
  EXPECT_FLOAT_EQ(scaled.back(), unscaled.back() / 4);
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), 0.1f * std::log(4.0f) + 1.0f);
  rope.mscale = 1;
  rope.mscale_all_dim = 1;
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), 1.0f);
  rope.attention_factor = 1.25;
  EXPECT_FLOAT_EQ(RopeMagnitude(rope), 1.25f);
}

}  // namespace
}  // namespace penstock
