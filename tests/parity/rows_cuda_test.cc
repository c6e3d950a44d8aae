// The row kernels on a real GPU against a reference in double; skipped, visibly, where there is
// none.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/launch.h"

namespace penstock::kernels {
namespace {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host) : size_(host.size()) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), size_ * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  T* data() { return data_; }
  std::vector<T> Read() {
    std::vector<T> host(size_);
    EXPECT_EQ(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

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

INSTANTIATE_TEST_SUITE_P(Widths, RowsTest, testing::Values(1, 15, 64, 200, 256, 257, 4096),
                         [](const auto& info) { return "width" + std::to_string(info.param); });

}  // namespace
}  // namespace penstock::kernels
