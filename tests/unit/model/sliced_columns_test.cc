#include "model/sliced_columns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/rounded_rows.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kRows = 5;
constexpr int64_t kColumns = 96;

HostTensor Matrix() {
  auto values = std::make_shared<std::vector<float>>();
  for (int64_t i = 0; i < kRows * kColumns; ++i)
    values->push_back(static_cast<float>((i * 37 + i / 7 * 11) % 201 - 100) / 64.0f);
  return {DType::kFloat32, {kRows, kColumns}, values->data(), values};
}

std::vector<float> Cut(const std::vector<float>& whole, int64_t begin, int64_t count) {
  std::vector<float> part;
  for (int64_t r = 0; r < kRows; ++r) {
    part.insert(part.end(), whole.begin() + r * kColumns + begin,
                whole.begin() + r * kColumns + begin + count);
  }
  return part;
}

TEST(SlicedColumns, OfNumbersAreTheNumbers) {
  const HostTensor matrix = Matrix();
  const auto* from = static_cast<const float*>(matrix.data);
  const std::vector<float> whole(from, from + kRows * kColumns);
  HostLinear linear;
  linear.plain = matrix;
  const auto slice = SliceColumns(linear, 31, 17, "x");
  ASSERT_TRUE(slice.ok()) << slice.status();
  ASSERT_EQ(slice->plain.shape, (std::vector<int64_t>{kRows, 17}));
  const auto* got = static_cast<const float*>(slice->plain.data);
  EXPECT_EQ(std::vector<float>(got, got + kRows * 17), Cut(whole, 31, 17));
}

/// Of codes in groups, or with a scale for each row.
class SlicedCodesTest : public ::testing::TestWithParam<RoundingRule> {};

TEST_P(SlicedCodesTest, AreTheValuesOfTheWhole) {
  HostLinear linear;
  linear.codes = std::make_shared<RoundedRows>(Matrix(), GetParam());
  linear.integer_input = true;
  std::vector<float> whole(kRows * kColumns);
  Dequantize(*linear.codes, 0, kRows, whole.data());
  for (const auto& [begin, count] : {std::pair{0, 32}, std::pair{32, 64}, std::pair{64, 32}}) {
    const auto slice = SliceColumns(linear, begin, count, "x");
    ASSERT_TRUE(slice.ok()) << slice.status();
    EXPECT_TRUE(slice->integer_input);
    ASSERT_EQ(slice->codes->k(), count);
    std::vector<float> got(kRows * count);
    Dequantize(*slice->codes, 0, 2, got.data());
    Dequantize(*slice->codes, 2, kRows - 2, got.data() + 2 * count);
    EXPECT_EQ(got, Cut(whole, begin, count));
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, SlicedCodesTest,
                         ::testing::Values(RoundingRule{8, 32}, RoundingRule{8, 0},
                                           RoundingRule{4, 32}));

TEST(SlicedColumns, OfCodesAreNotCutWithinAGroup) {
  HostLinear linear;
  linear.codes = std::make_shared<RoundedRows>(Matrix(), RoundingRule{8, 32});
  const auto slice = SliceColumns(linear, 48, 48, "layers.3.mlp.down_proj");
  EXPECT_EQ(slice.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(slice.status().message(), HasSubstr("layers.3.mlp.down_proj: columns 48 to 96"));
  EXPECT_THAT(slice.status().message(), HasSubstr("groups of 32"));
}

class OrderedRows final : public QuantizedRows {
 public:
  OrderedRows() : QuantizedRows(1, 4, Form()) {}
  static QuantizedForm Form() {
    QuantizedForm form;
    form.group = 2;
    form.column_order = {3, 1, 0, 2};
    return form;
  }
  void Read(int64_t, int64_t, uint8_t*, float*, float*) const override {}
};

TEST(SlicedColumns, OfAnOrderOfTheirOwnAreRefused) {
  HostLinear linear;
  linear.codes = std::make_shared<OrderedRows>();
  EXPECT_THAT(SliceColumns(linear, 0, 2, "o_proj").status().message(), HasSubstr("act-order"));
}

}  // namespace
}  // namespace penstock
