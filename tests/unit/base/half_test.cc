#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace penstock {
namespace {

TEST(Half, EveryFp16ValueComesBack) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = Fp16ToFloat(static_cast<uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(Fp16ToFloat(FloatToFp16(f))));
    } else {
      ASSERT_EQ(FloatToFp16(f), h);
    }
  }
}

TEST(Half, EveryBf16ValueComesBack) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = Bf16ToFloat(static_cast<uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(f))));
    } else {
      ASSERT_EQ(FloatToBf16(f), h);
    }
  }
}

TEST(Half, Fp16ValuesAreExact) {
  EXPECT_EQ(Fp16ToFloat(0x3c00), 1.0f);
  EXPECT_EQ(Fp16ToFloat(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(Fp16ToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(Fp16ToFloat(0xc000), -2.0f);
}

TEST(Half, RoundsToNearestAndTiesToEven) {
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f), 0x3f80);            // halfway, even below
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);  // halfway, even above
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
  EXPECT_EQ(FloatToFp16(1.0f + 0x1p-11f), 0x3c00);
  EXPECT_EQ(FloatToFp16(1.0f + 0x1p-10f + 0x1p-11f), 0x3c02);
  EXPECT_EQ(FloatToFp16(0x1p-25f), 0x0000);
  EXPECT_EQ(FloatToFp16(0x1.8p-24f), 0x0002);
}

TEST(Half, OverflowsToInfinityAndKeepsNan) {
  EXPECT_EQ(FloatToFp16(65519.0f), 0x7bff);
  EXPECT_EQ(FloatToFp16(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace penstock
