// The row kernels against a reference in double, on a GPU or under the emulator; skipped, visibly,
// where there is no GPU.
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/launch.h"
#include "parity/device_array.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class RowsTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
      if (std::getenv("PENSTOCK_REQUIRE_GPU") != nullptr)
        FAIL() << "PENSTOCK_REQUIRE_GPU is set, and there is no GPU";
      GTEST_SKIP() << "no GPU";
    }
    const unsigned seed = std::random_device{}();
    RecordProperty("seed", std::to_string(seed));
    random_.seed(seed);
  }
  std::vector<float> Random(size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> out(n);
    for (float& v : out) v = normal(random_);
    return out;
  }
  std::mt19937 random_;
};

constexpr int kRows = 17;

TEST_P(RowsTest, RmsNormIsTheReference) {
  const int width = GetParam();
  const std::vector<float> x = Random(size_t{kRows} * width), weight = Random(width);
  DeviceArray<float> dx(x), dw(weight), dy(std::vector<float>(x.size(), NAN));
  const RmsNormArgs args{dx.data(), dw.data(), dy.data(), 1e-6f, kRows, width, Element::kFloat32};
  ASSERT_EQ(LaunchRmsNorm(args, nullptr), cudaSuccess);
  const std::vector<float> y = dy.Read();
  for (int r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int i = 0; i < width; ++i) sum += double(x[r * width + i]) * x[r * width + i];
    for (int i = 0; i < width; ++i) {
      const double expected = x[r * width + i] / std::sqrt(sum / width + 1e-6) * weight[i];
      ASSERT_NEAR(y[r * width + i], expected, 1e-5 * (1 + std::abs(expected)));
    }
  }
}

TEST_P(RowsTest, GatedSiluIsTheReference) {
  const int width = GetParam();
  const std::vector<float> x = Random(size_t{kRows} * 2 * width);
  DeviceArray<float> dx(x), dy(std::vector<float>(size_t{kRows} * width, NAN));
  ASSERT_EQ(LaunchGatedSilu({dx.data(), dy.data(), kRows, width, Element::kFloat32}, nullptr),
            cudaSuccess);
  const std::vector<float> y = dy.Read();
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < width; ++i) {
      const double g = x[r * 2 * width + i],
                   expected = g / (1 + std::exp(-g)) * x[r * 2 * width + width + i];
      ASSERT_NEAR(y[r * width + i], expected, 1e-5 * (1 + std::abs(expected)));
    }
  }
}

TEST_P(RowsTest, EmbedCopiesTheNamedRows) {
  const int width = GetParam();
  const std::vector<float> table = Random(size_t{31} * width);
  std::vector<int32_t> ids(kRows);
  for (int32_t& id : ids) id = static_cast<int32_t>(random_() % 31);
  DeviceArray<float> dt(table), dy(std::vector<float>(size_t{kRows} * width, NAN));
  DeviceArray<int32_t> di(ids);
  ASSERT_EQ(
      LaunchEmbed({dt.data(), di.data(), dy.data(), kRows, width, Element::kFloat32}, nullptr),
      cudaSuccess);
  const std::vector<float> y = dy.Read();
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < width; ++i) ASSERT_EQ(y[r * width + i], table[ids[r] * width + i]);
  }
}

INSTANTIATE_TEST_SUITE_P(PENSTOCK_DEVICE, RowsTest, testing::Values(1, 15, 64, 200, 256, 257, 4096),
                         [](const auto& info) { return "width" + std::to_string(info.param); });

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
