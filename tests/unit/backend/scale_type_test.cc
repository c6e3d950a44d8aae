#include "backend/scale_type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace penstock {
namespace {

DType TypeOf(std::vector<float> scales) {
  ScaleType type;
  type.Add(scales);
  return type.Get();
}

TEST(ScaleType, IsTheSmallestThatHoldsAllExactly) {
  EXPECT_EQ(TypeOf({1.0f, 0.25f, 0x1p-126f, 0x1p127f}), DType::kFloat8E8M0);
  EXPECT_EQ(TypeOf({1.0f, 0.0f}), DType::kBFloat16);
  EXPECT_EQ(TypeOf({1.0f, -1.0f}), DType::kBFloat16);
  EXPECT_EQ(TypeOf({0x1p-127f}), DType::kBFloat16);
  EXPECT_EQ(TypeOf({1.5f, 1e30f}), DType::kFloat32);
  EXPECT_EQ(TypeOf({1.0f + 0x1p-10f}), DType::kFloat16);
  EXPECT_EQ(TypeOf({1.0f + 0x1p-10f, 0x1p-30f}), DType::kFloat32);
  EXPECT_EQ(TypeOf({1.0f + 0x1p-20f}), DType::kFloat32);
  EXPECT_EQ(TypeOf({NAN}), DType::kBFloat16);
}

TEST(ScaleType, JoinsWhatOtherScalesNeed) {
  ScaleType all;
  all.Add(std::vector<float>{1.0f});
  ScaleType other;
  other.Add(std::vector<float>{1.0f + 0x1p-10f});
  all.Add(other);
  EXPECT_EQ(all.Get(), DType::kFloat16);
}

TEST(ScaleType, StoresWhatItHolds) {
  uint8_t exponent;
  StoreScale(DType::kFloat8E8M0, 0.25f, &exponent);
  EXPECT_EQ(exponent, 125);
  uint16_t half;
  StoreScale(DType::kBFloat16, 1.5f, &half);
  EXPECT_EQ(half, 0x3fc0);
  StoreScale(DType::kFloat16, 1.5f, &half);
  EXPECT_EQ(half, 0x3e00);
  float whole;
  StoreScale(DType::kFloat32, 1.1f, &whole);
  EXPECT_EQ(whole, 1.1f);
}

}  // namespace
}  // namespace penstock
