// Products of linear layers for few rows, on a GPU or under the emulator: against double precision,
// and with equal bits however many rows they come with.
#include "parity/gemm_kernels.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

struct Shape {
  int32_t n, k;
};
constexpr Shape kGemmShapes[] = {{1, 8},    {16, 16},  {17, 64},   {127, 72},  {128, 128},
                                 {129, 61}, {317, 96}, {509, 200}, {130, 1024}};

class GemmTest : public KernelGemm {
 protected:
  /// In plain rows, with what is not to be read behind each.
  static std::vector<float> PlainRows(const std::vector<float>& w, int32_t n, int32_t k,
                                      Element element) {
    const auto size = static_cast<int32_t>(BytesOf(element));
    const int64_t stride = PlainRowBytes(k, size) / size;
    std::vector<float> rows(n * stride, std::numeric_limits<float>::quiet_NaN());
    for (int32_t r = 0; r < n; ++r) {
      std::copy_n(w.begin() + int64_t{r} * k, k, rows.begin() + r * stride);
    }
    return rows;
  }

  void Run(Element element, Element y_element, Shape shape, int32_t at_once) {
    const auto [n, k] = shape;
    SCOPED_TRACE(
        testing::PrintToString(std::vector<int32_t>{int(element), int(y_element), n, k, at_once}));
    const std::vector<float> w = Random(size_t(n) * k, element), bias = Random(n);
    const Inputs x = RandomInputs(k, element);
    const std::vector<float> before = Random(size_t(kMostRows) * n, y_element);
    DeviceRows dx(element, x.padded), dw(element, PlainRows(w, n, k, element));
    DeviceArray<float> db(bias);
    Work work(at_once, n);
    GemmArgs a;
    a.x = dx.data();
    a.x_stride = x.stride;
    a.w = dw.data();
    a.n = n;
    a.k = k;
    a.element = element;
    a.y_element = y_element;
    a.work = work.Get();
    std::vector<double> exact = Product(x.values, w, n, k);
    const auto launch = [](const GemmArgs& args) { return LaunchGemm(args, nullptr); };
    const double tolerance = ToleranceOf(y_element);
    const std::vector<float> plain = Multiply(a, kMostRows, before, launch);
    ExpectClose(plain, exact, tolerance);
    for (const int32_t m : kGemmTestRows) {
      const std::vector<float> some = Multiply(a, m, before, launch);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), plain.begin())) << m;
    }
    a.bias = db.data();
    a.accumulate = true;
    a.scale = 0.75f;
    a.soft_cap = 20.0f;
    const std::vector<float> all = Multiply(a, 17, before, launch);
    exact.resize(all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      exact[i] = 20 * std::tanh(0.75 * (exact[i] + bias[i % n]) / 20) + before[i];
    }
    ExpectClose(all, exact, tolerance);
    work.ExpectClean();
  }
};

TEST_F(GemmTest, IsTheProduct) {
  for (const Shape& shape : kGemmShapes) {
    const Element y_element = kNumberElements[Below(3)];
    Run(Element::kBFloat16, y_element, shape, 1 + Below(9));
    Run(Element::kFloat16, y_element, shape, 1 + Below(9));
  }
}

TEST_F(GemmTest, RefusesRowsThatCopiesCannotRead) {
  DeviceRows x(Element::kBFloat16, Random(64)), w(Element::kBFloat16, Random(64));
  DeviceArray<float> y(size_t{64});
  Work work(1, 8);
  GemmArgs a;
  a.x = x.data();
  a.x_stride = 16;
  a.w = w.data();
  a.y = y.data();
  a.y_stride = 8;
  a.y_element = Element::kFloat32;
  a.m = 2;
  a.n = 8;
  a.k = 8;
  a.work = work.Get();
  EXPECT_EQ(LaunchGemm(a, nullptr), cudaSuccess);
  a.x_stride = 12;
  EXPECT_EQ(LaunchGemm(a, nullptr), cudaErrorInvalidValue);
  a.x_stride = 16;
  a.x = x.data() + 8;
  EXPECT_EQ(LaunchGemm(a, nullptr), cudaErrorInvalidValue);
  a.x = x.data();
  a.keep_sums = true;
  EXPECT_EQ(LaunchGemm(a, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
