// Products of 8-bit integers for few rows: the sums are exact, and what becomes of them has the bits
// of the CPU backend's linear layer.
#include "backend/make_backend.h"
#include "fakes/codes_in_memory.h"
#include "parity/gemm_kernels.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class Int8GemmTest : public KernelGemm {
 protected:
  void SetUp() override {
    KernelGemm::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto opened = OpenBackend({"cpu", &pool_});
    ASSERT_TRUE(opened.ok());
    cpu_ = std::move(opened->device);
  }

  /// Rows of bytes at multiples of 16, with what is not to be read behind each.
  std::vector<int8_t> PaddedBytes(const std::vector<int8_t>& rows, int64_t k, int64_t stride) {
    const int64_t n = static_cast<int64_t>(rows.size()) / k;
    std::vector<int8_t> out(n * stride, 99);
    for (int64_t r = 0; r < n; ++r) {
      std::copy_n(rows.begin() + r * k, k, out.begin() + r * stride);
    }
    return out;
  }

  /// The CPU's y of x [m, k], added to `before`.
  std::vector<float> OnCpu(const PackedLinear& packed, const std::vector<float>& x, int32_t m,
                           Element y_element, const std::vector<float>& before, float scale,
                           float soft_cap) {
    std::vector<float> input = x;
    std::vector<uint8_t> y = Encoded(y_element, before);
    const Tensor from{input.data(), DType::kFloat32, m, packed.k, packed.k};
    const Tensor to{y.data(), y_element == Element::kFloat32 ? DType::kFloat32 : DType::kBFloat16,
                    m, packed.n, packed.n};
    cpu_->ops().Linear({.x = from,
                        .w = &packed,
                        .y = to,
                        .accumulate = true,
                        .scale = scale,
                        .soft_cap = soft_cap});
    return Decoded(y_element, y);
  }

  void Run(int32_t n, int32_t k, Element y_element, int32_t at_once) {
    SCOPED_TRACE(testing::PrintToString(std::vector<int32_t>{n, k, int(y_element), at_once}));
    std::vector<int8_t> w(size_t(n) * k);
    std::vector<uint8_t> codes(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      codes[i] = static_cast<uint8_t>(random_());
      w[i] = static_cast<int8_t>(codes[i] - 128);
    }
    std::vector<float> w_scales = Random(n);
    for (float& v : w_scales) v *= 0.01f;
    const std::vector<float> bias = Random(n), x = Random(size_t(kMostRows) * k);
    const PlainBytes q = RoundRows(x, kMostRows, k);
    const int64_t stride = PlainRowBytes(k, 1) + 16 * Below(3);
    DeviceArray<int8_t> dx(PaddedBytes(q.q, k, stride)), dw(PaddedBytes(w, k, PlainRowBytes(k, 1)));
    DeviceArray<float> x_scales(q.scales), dws(w_scales), db(bias);
    Work work(at_once, n);
    GemmArgs a;
    a.x = dx.data();
    a.x_stride = stride;
    a.w = dw.data();
    a.n = n;
    a.k = k;
    a.element = Element::kInt8;
    a.work = work.Get();
    a.keep_sums = true;
    const std::vector<double> exact = Product({q.q.begin(), q.q.end()}, {w.begin(), w.end()}, n, k);
    for (const int32_t m : {1, 8, 17, 33, 65, kMostRows}) {
      DeviceArray<int32_t> sums(size_t(m) * n);
      a.m = m;
      a.y = sums.data();
      a.y_stride = n;
      ASSERT_EQ(LaunchGemm(a, nullptr), cudaSuccess);
      const std::vector<int32_t> out = sums.Read();
      EXPECT_TRUE(std::equal(out.begin(), out.end(), exact.begin())) << m;
    }
    a.keep_sums = false;
    a.x_scales = x_scales.data();
    a.w_scales = dws.data();
    a.bias = db.data();
    a.accumulate = true;
    a.y_element = y_element;
    QuantizedForm form;
    form.bits = 8;
    form.group = k;
    form.center = 128;
    const CodesInMemory matrix(n, k, form, codes, w_scales, {});
    const LinearPart part[] = {
        {.bias = bias.data(), .rows = n, .codes = &matrix, .integer_input = true}};
    const auto packed = cpu_->Pack(k, part);
    ASSERT_TRUE(packed.ok()) << packed.status();
    const std::vector<float> before = Random(size_t(kMostRows) * n, y_element);
    for (const float soft_cap : {0.0f, 30.0f}) {
      a.soft_cap = soft_cap;
      a.scale = soft_cap == 0.0f ? 1.0f : 0.5f;
      const std::vector<float> cpu =
          OnCpu(*packed, x, kMostRows, y_element, before, a.scale, a.soft_cap);
      for (const int32_t m : {1, 16, 63, kMostRows}) {
        const std::vector<float> out =
            Multiply(a, m, before, [](const GemmArgs& g) { return LaunchGemm(g, nullptr); });
        EXPECT_TRUE(std::equal(out.begin(), out.end(), cpu.begin())) << m << " " << soft_cap;
      }
    }
    work.ExpectClean();
  }

  WorkerPool pool_{2};
  std::unique_ptr<Device> cpu_;
};

TEST_F(Int8GemmTest, HasTheCpusBits) {
  for (const int32_t k : {8, 72, 136, 1032}) {
    for (const int32_t n : {1, 17, 317}) {
      Run(n, k, Below(2) == 0 ? Element::kFloat32 : Element::kBFloat16, 1 + Below(9));
    }
  }
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
