#include "backend/cuda/weight_pack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "base/half.h"
#include "fakes/codes_in_memory.h"
#include "kernels/weight_layout.h"
#include "test_seed.h"

namespace penstock {
namespace {

using kernels::CodeLayout;
using kernels::kTileRows;
using kernels::ScaleKind;

TEST(WeightLayout, EveryCodeHasASpotOfItsOwn) {
  for (const int32_t bits : {4, 8}) {
    std::set<std::pair<int32_t, int32_t>> spots;
    const int32_t columns = CodeLayout{bits}.step_columns();
    for (int32_t row = 0; row < kTileRows; ++row) {
      for (int32_t column = 0; column < columns; ++column) {
        const kernels::CodeSpot spot = kernels::SpotOfCode(bits, row, column);
        ASSERT_LT(spot.byte, kernels::kCodeBytes);
        ASSERT_TRUE(spots.insert({spot.byte, spot.shift}).second) << bits << " " << row;
      }
    }
    EXPECT_EQ(spots.size(), kernels::kCodeBytes * 8 / bits);
  }
}

class WeightPack : public testing::Test {
 protected:
  static constexpr int64_t kRows = 150, kColumns = 200;

  CodesInMemory RandomCodes(const QuantizedForm& form) {
    const int64_t groups = (kColumns + form.group - 1) / form.group;
    std::vector<uint8_t> codes(kRows * kColumns);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random_() % (1 << form.bits));
    const auto numbers = [&] {
      std::vector<float> out(kRows * groups);
      for (float& v : out) {
        v = Bf16ToFloat(FloatToBf16(std::normal_distribution<float>()(random_)));
      }
      return out;
    };
    std::vector<float> scales = numbers();
    return {kRows, kColumns, form, codes, scales, form.has_offset ? numbers() : scales};
  }

  /// The only segment of a part, and its bytes.
  LinearSegment Pack(const LinearPart& part) {
    const auto segments = PlanCudaWeights({&part, 1}, kColumns, WeightFormat::kBFloat16, pool_);
    EXPECT_EQ(segments.size(), 1);
    bytes_.assign(CudaWeightBytes(segments, kColumns), std::byte{0});
    FillCudaWeights({&part, 1}, kColumns, segments, pool_, bytes_.data());
    return segments[0];
  }
  LinearSegment Pack(const CodesInMemory& codes, bool integer_input = false) {
    return Pack({.rows = kRows, .codes = &codes, .integer_input = integer_input});
  }

  template <class T>
  T At(size_t byte) const {
    T out;
    std::memcpy(&out, bytes_.data() + byte, sizeof out);
    return out;
  }

  std::mt19937 random_{static_cast<uint32_t>(TestSeed())};
  WorkerPool pool_{2};
  std::vector<std::byte> bytes_;
};

TEST_F(WeightPack, TilesHoldCodesAndTheScalesOfTheirGroups) {
  for (const bool four_bits : {false, true}) {
    QuantizedForm form;
    form.bits = four_bits ? 4 : 8;
    form.group = 32;
    form.center = 8;
    form.has_offset = true;
    const CodesInMemory codes = RandomCodes(form);
    const LinearSegment segment = Pack(codes);
    ASSERT_EQ(CudaKindOf(segment), CudaWeightKind::kTiles);
    ASSERT_EQ(segment.scale_type, DType::kBFloat16);
    const CodeLayout layout{form.bits, 8, 32, ScaleKind::kBFloat16, ScaleKind::kBFloat16};
    std::vector<float> values(kRows * kColumns);
    Dequantize(codes, 0, kRows, values.data());
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kColumns; ++c) {
        const int64_t step = r / kTileRows * layout.steps(kColumns) + c / layout.step_columns();
        const size_t begin = step * layout.step_bytes();
        const auto row = static_cast<int32_t>(r % kTileRows);
        const auto column = static_cast<int32_t>(c % layout.step_columns());
        const kernels::CodeSpot spot = kernels::SpotOfCode(form.bits, row, column);
        const int stored = At<uint8_t>(begin + spot.byte);
        const int code = four_bits ? stored >> spot.shift & 15 : stored ^ 128;
        const size_t scale_at = begin + kernels::kCodeBytes + 2 * (column / 32 * kTileRows + row);
        const float scale = Bf16ToFloat(At<uint16_t>(scale_at));
        const float offset = Bf16ToFloat(At<uint16_t>(scale_at + layout.scales_bytes()));
        const float product = scale * static_cast<float>(code - 8);
        ASSERT_EQ(product + offset, values[r * kColumns + c]) << r << " " << c;
      }
    }
  }
}

TEST_F(WeightPack, IntegersLieInPlainRowsWithAScaleEach) {
  QuantizedForm form;
  form.bits = 8;
  form.group = kColumns;
  form.center = 128;
  const CodesInMemory codes = RandomCodes(form);
  const LinearSegment segment = Pack(codes, true);
  ASSERT_EQ(CudaKindOf(segment), CudaWeightKind::kInt8Rows);
  std::vector<uint8_t> expected(kRows * kColumns);
  std::vector<float> scales(kRows);
  codes.Read(0, kRows, expected.data(), scales.data(), nullptr);
  const size_t scales_at = PlaceOf(segment, kColumns).scales_begin;
  for (int64_t r = 0; r < kRows; ++r) {
    EXPECT_EQ(At<float>(scales_at + r * sizeof(float)), scales[r]);
    for (int64_t c = 0; c < kColumns; ++c) {
      ASSERT_EQ(At<int8_t>(r * kernels::PlainRowBytes(kColumns, 1) + c),
                expected[r * kColumns + c] - 128);
    }
  }
  // Without integers as inputs, or with another center, they are numbers.
  EXPECT_EQ(CudaKindOf(Pack(codes)), CudaWeightKind::kTiles);
  form.center = 127;
  EXPECT_EQ(CudaKindOf(Pack(RandomCodes(form), true)), CudaWeightKind::kTiles);
}

TEST_F(WeightPack, WhatNoKernelTakesBecomesNumbers) {
  QuantizedForm form;
  form.group = 48;
  const CodesInMemory codes = RandomCodes(form);
  const LinearSegment segment = Pack(codes);
  ASSERT_EQ(CudaKindOf(segment), CudaWeightKind::kRows);
  ASSERT_EQ(segment.format, WeightFormat::kBFloat16);
  std::vector<float> values(kRows * kColumns);
  Dequantize(codes, 0, kRows, values.data());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const size_t at = r * kernels::PlainRowBytes(kColumns, 2) + 2 * c;
      ASSERT_EQ(At<uint16_t>(at), FloatToBf16(values[r * kColumns + c]));
    }
  }
  // A book that is not e4m3's, by one number.
  QuantizedForm book;
  book.bits = 8;
  book.group = 32;
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const float fraction = static_cast<float>(code & 7) / 8;
    const float number = exponent == 0
                             ? fraction / 64
                             : (1 + fraction) * std::exp2(static_cast<float>(exponent - 7));
    book.book.push_back(code < 128 ? number : -number);
  }
  EXPECT_EQ(CudaKindOf(Pack(RandomCodes(book))), CudaWeightKind::kTiles);
  book.book[17] *= 1.5f;
  EXPECT_EQ(CudaKindOf(Pack(RandomCodes(book))), CudaWeightKind::kRows);
}

TEST_F(WeightPack, KeepsTheCodesOfE2m1AndDoublesTheScalesOfADoubledBook) {
  QuantizedForm form;
  form.group = 32;
  for (const float sign : {1.0f, -1.0f}) {
    for (const float number : {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f})
      form.book.push_back(sign * number);
  }
  std::vector<uint8_t> codes(kRows * kColumns);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random_() % 16);
  std::vector<float> scales(kRows * ((kColumns + 31) / 32));
  for (float& scale : scales) scale = std::exp2(static_cast<float>(random_() % 40) - 30.0f);
  const LinearSegment segment = Pack(CodesInMemory(kRows, kColumns, form, codes, scales, scales));
  ASSERT_EQ(CudaKindOf(segment), CudaWeightKind::kTiles);
  EXPECT_EQ(CudaWeightBytes({&segment, 1}, kColumns),
            CodeLayout({.bits = 4, .group = 32, .scale_kind = ScaleKind::kBFloat16})
                .bytes(kRows, kColumns));
  const std::vector<std::byte> packed = bytes_;
  for (float& number : form.book) number *= 2;
  for (float& scale : scales) scale /= 2;
  EXPECT_EQ(CudaKindOf(Pack(CodesInMemory(kRows, kColumns, form, codes, scales, scales))),
            CudaWeightKind::kTiles);
  EXPECT_EQ(bytes_, packed);
  form.book[3] *= 1.5f;
  EXPECT_EQ(CudaKindOf(Pack(CodesInMemory(kRows, kColumns, form, codes, scales, scales))),
            CudaWeightKind::kRows);
}

TEST_F(WeightPack, TakesRowsInAnyOrderFromNumbersOfAnyType) {
  std::vector<uint16_t> halves(kRows * kColumns);
  for (uint16_t& h : halves) h = FloatToFp16(std::normal_distribution<float>()(random_));
  std::vector<int32_t> order(kRows);
  for (int64_t r = 0; r < kRows; ++r) order[r] = static_cast<int32_t>(kRows - 1 - r);
  const LinearSegment segment = Pack(
      {.weight = halves.data(), .rows = kRows, .order = order, .format = WeightFormat::kFloat16});
  ASSERT_EQ(CudaKindOf(segment), CudaWeightKind::kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const size_t at = r * kernels::PlainRowBytes(kColumns, 2) + 2 * c;
      ASSERT_EQ(At<uint16_t>(at), FloatToBf16(Fp16ToFloat(halves[order[r] * kColumns + c])));
    }
  }
}

}  // namespace
}  // namespace penstock
