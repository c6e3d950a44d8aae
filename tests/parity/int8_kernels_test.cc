// A linear layer in 8-bit integers as the GPU takes it, from norm to residual: row kernels round the
// input and read the exact sums, and the bits are those of the CPU backend's linear layer.
#include <cstdio>

#include "backend/make_backend.h"
#include "fakes/codes_in_memory.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class Int8Chain : public KernelRows {
 protected:
  void SetUp() override {
    KernelRows::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto opened = OpenBackend({"cpu", &pool_});
    ASSERT_TRUE(opened.ok());
    cpu_ = std::move(opened->device);
  }
  static Tensor View(std::vector<uint8_t>& raw, Element element, int64_t rows, int64_t cols) {
    return {raw.data(), element == Element::kFloat32 ? DType::kFloat32 : DType::kBFloat16, rows,
            cols, cols};
  }

  void Run(Element element, int32_t m, int32_t k, int32_t n, bool has_bias) {
    SCOPED_TRACE(testing::PrintToString(std::vector<int32_t>{m, k, n, int(element), has_bias}));
    const std::vector<float> x = Random(size_t(m) * k, element), weight = Random(k);
    DeviceRows dx(element, x), normed(element, x.size());
    DeviceArray<float> dw(weight), scales(static_cast<size_t>(m));
    DeviceArray<int8_t> dq(x.size());
    NormArgs norm;
    norm.x = {dx.data(), k};
    norm.weight = dw.data();
    norm.rows = m;
    norm.width = k;
    norm.element = element;
    norm.y = {normed.data(), k};
    ASSERT_EQ(LaunchNorm(norm, nullptr), cudaSuccess);
    norm.y = {dq.data(), k, scales.data()};
    ASSERT_EQ(LaunchNorm(norm, nullptr), cudaSuccess);
    const std::vector<int8_t> q = dq.Read();

    QuantizedForm form;
    form.bits = 8;
    form.group = k;
    form.center = 128;
    std::vector<uint8_t> codes(size_t(n) * k);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random_());
    std::vector<float> channel_scales = Random(n);
    for (float& v : channel_scales) v *= 0.01f;
    const std::vector<float> bias = Random(n);
    const CodesInMemory matrix(n, k, form, codes, channel_scales, {});
    const std::vector<float> before = Random(size_t(m) * n, element);

    const LinearPart part[] = {{.bias = has_bias ? bias.data() : nullptr,
                                .rows = n,
                                .codes = &matrix,
                                .integer_input = true}};
    const auto packed = cpu_->Pack(k, part);
    ASSERT_TRUE(packed.ok()) << packed.status();
    std::vector<uint8_t> cpu_x = Encoded(element, normed.Values());
    std::vector<uint8_t> cpu_sum = Encoded(element, before);
    std::vector<uint8_t> cpu_alone(cpu_sum.size());
    cpu_->ops().Linear({.x = View(cpu_x, element, m, k),
                        .w = &*packed,
                        .y = View(cpu_sum, element, m, n),
                        .accumulate = true});
    cpu_->ops().Linear(
        {.x = View(cpu_x, element, m, k), .w = &*packed, .y = View(cpu_alone, element, m, n)});

    // What a product on the GPU leaves: exact sums.
    std::vector<int32_t> sums(size_t(m) * n);
    for (int32_t r = 0; r < m; ++r) {
      for (int32_t c = 0; c < n; ++c) {
        for (int32_t i = 0; i < k; ++i) sums[r * n + c] += q[r * k + i] * (codes[c * k + i] - 128);
      }
    }
    DeviceArray<int32_t> ds(sums);
    DeviceArray<float> dcs(channel_scales), db(bias);
    DeviceRows residual(element, before), out(element, before.size());
    NormArgs next;
    next.x = {ds.data(), n, scales.data(), dcs.data(), has_bias ? db.data() : nullptr};
    next.residual = residual.data();
    next.residual_stride = n;
    next.y = {out.data(), n};
    next.rows = m;
    next.width = n;
    next.element = element;
    ASSERT_EQ(LaunchNorm(next, nullptr), cudaSuccess);
    EXPECT_TRUE(residual.Values() == Decoded(element, cpu_sum));
    // Without a residual, by the gate that changes nothing above zero.
    GatedArgs gate;
    gate.gate = next.x;
    gate.y = {out.data(), n};
    gate.f = Gate::kRelu;
    gate.rows = m;
    gate.width = n;
    gate.element = element;
    ASSERT_EQ(LaunchGated(gate, nullptr), cudaSuccess);
    std::vector<float> alone = Decoded(element, cpu_alone);
    for (float& v : alone) v = std::max(v, 0.0f);
    EXPECT_TRUE(out.Values() == alone);
  }

  WorkerPool pool_{2};
  std::unique_ptr<Device> cpu_;
};

TEST_F(Int8Chain, EqualsTheCpusLinearLayer) {
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int32_t k : {8, 16, 64, 72, 128, 136, 1024}) {
      for (const int32_t n : {1, 16, 17, 64, 127, 129})
        Run(element, 1 + Below(9), k, n, n % 2 == 0);
    }
  }
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
