#include "model/rounded_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

HostTensor MatrixOf(std::vector<float>& values, int64_t rows, int64_t k) {
  uint32_t state = 5;
  values.resize(rows * k);
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-36f;
  }
  return {DType::kFloat32, {rows, k}, values.data(), nullptr};
}

TEST(RoundedRows, NamesItsRules) {
  EXPECT_EQ(ParseRoundingRule("none")->bits, 0);
  EXPECT_EQ(ParseRoundingRule("int8")->group, 32);
  EXPECT_EQ(ParseRoundingRule("int8-channel")->group, 0);
  EXPECT_EQ(ParseRoundingRule("int4-128")->bits, 4);
  EXPECT_THAT(ParseRoundingRule("fp3").status().message(),
              HasSubstr("expected none, int8, int8-channel, int4 or int4-128"));
}

TEST(RoundedRows, EveryWeightIsWithinHalfAStep) {
  for (const RoundingRule rule : {RoundingRule{8, 32}, RoundingRule{8, 0}}) {
    std::vector<float> values;
    const RoundedRows rows(MatrixOf(values, 5, 77), rule);
    std::vector<float> got(values.size()), scales(5 * rows.num_groups());
    Dequantize(rows, 0, 5, got.data());
    rows.Read(0, 5, nullptr, scales.data(), nullptr);
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t group = static_cast<int64_t>(i) % 77 / rows.form().group;
      const float step = scales[i / 77 * rows.num_groups() + group];
      EXPECT_LE(std::fabs(got[i] - values[i]), 0.76f * step) << i;  // the largest may be cut
    }
  }
}

TEST(RoundedRows, ARowsScaleIsItsLargestOver127) {
  std::vector<float> values;
  const RoundedRows rows(MatrixOf(values, 3, 40), {8, 0});
  std::vector<float> scales(3);
  std::vector<uint8_t> codes(3 * 40);
  rows.Read(0, 3, codes.data(), scales.data(), nullptr);
  for (int r = 0; r < 3; ++r) {
    float most = 0;
    for (int c = 0; c < 40; ++c) most = std::max(most, std::fabs(values[r * 40 + c]));
    EXPECT_EQ(scales[r], most / 127.0f);
    for (int c = 0; c < 40; ++c) {
      EXPECT_EQ(codes[r * 40 + c] - 128, std::nearbyint(values[r * 40 + c] * (1.0f / scales[r])));
    }
  }
}

TEST(RoundedRows, TheSearchedScaleIsNoWorseThanThePlainOne) {
  std::vector<float> values;
  const RoundedRows rows(MatrixOf(values, 64, 32), {4, 32});
  std::vector<float> got(values.size());
  Dequantize(rows, 0, 64, got.data());
  double error = 0, plain = 0;
  for (int r = 0; r < 64; ++r) {
    float most = 0;
    for (int c = 0; c < 32; ++c) {
      const float v = values[r * 32 + c];
      if (std::fabs(v) > std::fabs(most)) most = v;
    }
    const float scale = Bf16ToFloat(FloatToBf16(most / -8.0f));
    for (int c = 0; c < 32; ++c) {
      const float v = values[r * 32 + c];
      error += (got[r * 32 + c] - v) * (got[r * 32 + c] - v);
      const float q = std::clamp(std::nearbyint(v / scale), -8.0f, 7.0f);
      plain += (q * scale - v) * (q * scale - v);
    }
  }
  EXPECT_LT(error, plain);
}

TEST(RoundedRows, ZerosStayZerosAndHalvesAreRead) {
  std::vector<uint16_t> halves(2 * 32, FloatToFp16(0.0f));
  halves[40] = FloatToFp16(-2.0f);
  const HostTensor tensor{DType::kFloat16, {2, 32}, halves.data(), nullptr};
  for (const int bits : {4, 8}) {
    const RoundedRows rows(tensor, {bits, 32});
    std::vector<float> got(64);
    Dequantize(rows, 0, 2, got.data());
    for (int i = 0; i < 64; ++i) EXPECT_NEAR(got[i], i == 40 ? -2.0f : 0.0f, 0.01f) << i;
  }
}

}  // namespace
}  // namespace penstock
