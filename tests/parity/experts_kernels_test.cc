// Mixtures of experts on a GPU or under the emulator: the choice of experts and its weights are the
// CPU backend's, bit for bit, and what the experts make of a row is close to the CPU's.
#include <cmath>
#include <numeric>
#include <set>

#include "backend/cuda/weight_pack.h"
#include "backend/make_backend.h"
#include "fakes/codes_in_memory.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class ExpertsTest : public KernelRows {
 protected:
  void SetUp() override {
    KernelRows::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto opened = OpenBackend({"cpu", &pool_});
    ASSERT_TRUE(opened.ok());
    cpu_ = std::move(opened->device);
  }

  /// `odd`: what is no number, and infinities, among the router's numbers.
  void Route(RouterArgs a, bool ties, bool odd) {
    SCOPED_TRACE(testing::PrintToString(
        std::vector<int32_t>{a.rows, a.num_experts, a.top_k, int(a.score), a.normalize,
                             a.num_groups, a.top_groups, a.group_best, int(a.shared), ties, odd}));
    const int32_t columns = a.num_experts + (a.shared == SharedExpert::kGated ? 1 : 0);
    const int32_t slots = a.top_k + (a.shared == SharedExpert::kNone ? 0 : 1);
    std::vector<float> logits = Random(size_t(a.rows) * columns);
    for (float& v : logits) v = ties ? std::round(v) : 3 * v;
    const float kOdd[] = {NAN, INFINITY, -INFINITY};
    const int32_t among = 1 + Below(a.num_experts);
    for (float& v : logits) v = odd && Below(among) == 0 ? kOdd[Below(3)] : v;
    const std::vector<float> bias = Random(a.num_experts);
    const bool has_bias = Below(2) == 0;
    std::vector<int32_t> ids(size_t(a.rows) * slots);
    std::vector<float> weights(ids.size());
    penstock::RouteArgs cpu;
    cpu.logits = {logits.data(), DType::kFloat32, a.rows, columns, columns};
    cpu.rule = {RouterScore(a.score), a.normalize, a.num_groups,  a.top_groups,
                a.group_best,         a.scale,     a.shared_scale};
    cpu.num_experts = a.num_experts;
    cpu.top_k = a.top_k;
    cpu.score_bias = has_bias ? bias.data() : nullptr;
    cpu.shared = penstock::RouteArgs::Shared(a.shared);
    cpu.ids = ids.data();
    cpu.weights = weights.data();
    cpu_->ops().Route(cpu);

    DeviceArray<float> dl(logits), db(bias), out(weights.size());
    DeviceArray<int32_t> out_ids(ids.size());
    a.logits = dl.data();
    a.stride = columns;
    a.score_bias = has_bias ? db.data() : nullptr;
    a.ids = out_ids.data();
    a.weights = out.data();
    ASSERT_EQ(LaunchRoute(a, nullptr), cudaSuccess);
    EXPECT_EQ(out_ids.Read(), ids);
    for (int32_t r = 0; r < a.rows; ++r) {
      const std::set<int32_t> chosen(&ids[r * slots], &ids[r * slots] + slots);
      EXPECT_EQ(chosen.size(), size_t(slots)) << r;
      EXPECT_TRUE(*chosen.begin() >= 0 && *chosen.rbegin() < a.num_experts + 1) << r;
    }
    const std::vector<float> yielded = out.Read();
    for (size_t i = 0; i < weights.size(); ++i) {
      if (!std::isnan(weights[i]) || !std::isnan(yielded[i]))
        EXPECT_EQ(yielded[i], weights[i]) << i;
    }
  }

  /// A weight of every expert, on the CPU's device and on the GPU.
  struct Weights {
    std::vector<PackedLinear> cpu;
    std::vector<std::unique_ptr<DeviceArray<uint8_t>>> storage;
    std::unique_ptr<DeviceArray<const void*>> pointers;
    GemmArgs gemm;  // of one
  };
  Weights MakeWeights(int32_t experts, int32_t n, int32_t k, bool codes) {
    Weights out;
    std::vector<const void*> pointers;
    for (int32_t e = 0; e < experts; ++e) {
      const std::vector<float> numbers = Random(size_t(n) * k, Element::kBFloat16);
      QuantizedForm form;
      form.group = 32;
      form.center = 8;
      std::vector<uint8_t> four_bits(numbers.size());
      for (uint8_t& code : four_bits) code = random_() % 16;
      std::vector<float> scales = Random(size_t(n) * ((k + 31) / 32), Element::kBFloat16);
      const CodesInMemory matrix(n, k, form, four_bits, scales, {});
      LinearPart part;
      part.rows = n;
      if (codes) {
        part.codes = &matrix;
      } else {
        part.weight = numbers.data();
      }
      auto packed = cpu_->Pack(k, {&part, 1});
      EXPECT_TRUE(packed.ok());
      out.cpu.push_back(*std::move(packed));
      const auto segments = PlanCudaWeights({&part, 1}, k, WeightFormat::kBFloat16, pool_);
      std::vector<uint8_t> bytes(CudaWeightBytes(segments, k));
      FillCudaWeights({&part, 1}, k, segments, pool_, reinterpret_cast<std::byte*>(bytes.data()));
      out.storage.push_back(std::make_unique<DeviceArray<uint8_t>>(bytes));
      pointers.push_back(out.storage.back()->data());
    }
    out.pointers = std::make_unique<DeviceArray<const void*>>(pointers);
    out.gemm.n = n;
    out.gemm.k = k;
    out.gemm.has_codes = codes;
    if (codes) out.gemm.layout = {4, 8, 32, ScaleKind::kBFloat16};
    return out;
  }

  struct Shape {
    int32_t experts, k, inner, slots;
  };

  /// y [rows, k] after the experts, on the GPU.
  std::vector<float> OnDevice(const Shape& s, const Weights& gate_up, const Weights& down,
                              const std::vector<float>& x, const std::vector<int32_t>& ids,
                              const std::vector<float>& weights, const std::vector<float>& before) {
    const auto visits = static_cast<int32_t>(ids.size());
    const int32_t rows = visits / s.slots;
    DeviceRows dx(Element::kBFloat16, x), y(Element::kBFloat16, before);
    DeviceRows wide(Element::kBFloat16, size_t(visits) * 2 * s.inner);
    DeviceArray<float> out(size_t(visits) * s.k), dw(weights);
    DeviceArray<int32_t> di(ids), order(ids.size()), num_blocks(size_t{1});
    const int32_t block_rows = ExpertBlockRows(rows);
    DeviceArray<int32_t> blocks(size_t{3} * MostExpertBlocks(visits, s.experts, block_rows));
    const ExpertList list{order.data(), blocks.data(), num_blocks.data()};
    EXPECT_EQ(LaunchExpertList({di.data(), visits, 0, s.experts, block_rows, list}, nullptr),
              cudaSuccess);
    ExpertGemmArgs a;
    a.gemm = gate_up.gemm;
    a.gemm.x = dx.data();
    a.gemm.x_stride = s.k;
    a.gemm.y = wide.data();
    a.gemm.y_stride = 2 * s.inner;
    a.gemm.m = rows;
    a.weights = gate_up.pointers->data();
    a.list = list;
    a.block_rows = block_rows;
    a.x_slots = s.slots;
    a.ctas = 1 + Below(9);
    EXPECT_EQ(LaunchExpertGemm(a, nullptr), cudaSuccess);
    GatedArgs gate;
    gate.gate = {wide.data(), 2 * s.inner};
    gate.up = {wide.data() + 2 * s.inner, 2 * s.inner};  // in bytes
    gate.y = {wide.data(), 2 * s.inner};
    gate.rows = visits;
    gate.width = s.inner;
    EXPECT_EQ(LaunchGated(gate, nullptr), cudaSuccess);
    a.gemm = down.gemm;
    a.gemm.x = wide.data();
    a.gemm.x_stride = 2 * s.inner;
    a.gemm.y = out.data();
    a.gemm.y_stride = s.k;
    a.gemm.y_element = Element::kFloat32;
    a.gemm.m = visits;
    a.weights = down.pointers->data();
    a.x_slots = 1;
    EXPECT_EQ(LaunchExpertGemm(a, nullptr), cudaSuccess);
    EXPECT_EQ(LaunchExpertSum({out.data(), dw.data(), y.data(), s.k, rows, s.slots, s.k}, nullptr),
              cudaSuccess);
    return y.Values();
  }

  void Run(const Shape& s, int32_t rows, bool codes) {
    SCOPED_TRACE(testing::PrintToString(
        std::vector<int32_t>{s.experts, s.k, s.inner, s.slots, rows, codes}));
    Weights gate_up = MakeWeights(s.experts, 2 * s.inner, s.k, codes);
    Weights down = MakeWeights(s.experts, s.k, s.inner, codes);
    const std::vector<float> x = Random(size_t(rows) * s.k, Element::kBFloat16);
    const std::vector<float> before = Random(size_t(rows) * s.k, Element::kBFloat16);
    std::vector<float> weights = Random(size_t(rows) * s.slots);
    std::vector<int32_t> ids, all(s.experts);
    std::iota(all.begin(), all.end(), 0);
    for (int32_t r = 0; r < rows; ++r) {
      std::shuffle(all.begin(), all.end(), random_);
      ids.insert(ids.end(), all.begin(), all.begin() + s.slots);
    }
    std::vector<ExpertWeights> experts(s.experts);
    for (int32_t e = 0; e < s.experts; ++e) {
      experts[e] = {std::move(gate_up.cpu[e]), std::move(down.cpu[e])};
    }
    std::vector<uint8_t> cpu_x = Encoded(Element::kBFloat16, x);
    std::vector<uint8_t> cpu_y = Encoded(Element::kBFloat16, before);
    penstock::ExpertsArgs cpu;
    cpu.x = {cpu_x.data(), DType::kBFloat16, rows, s.k, s.k};
    cpu.ids = ids.data();
    cpu.weights = weights.data();
    cpu.num_slots = s.slots;
    cpu.experts = experts;
    cpu.y = {cpu_y.data(), DType::kBFloat16, rows, s.k, s.k};
    cpu_->ops().Experts(cpu);
    const std::vector<float> expected = Decoded(Element::kBFloat16, cpu_y);
    const std::vector<float> y = OnDevice(s, gate_up, down, x, ids, weights, before);
    double distance = 0;
    double norm = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      distance += (y[i] - expected[i]) * (y[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    EXPECT_LE(std::sqrt(distance), 1e-2 * std::sqrt(norm));
    // The last row alone, and with another order of blocks.
    const auto last = [&](const auto& v, int32_t width) {
      return std::vector(v.end() - width, v.end());
    };
    EXPECT_EQ(OnDevice(s, gate_up, down, last(x, s.k), last(ids, s.slots), last(weights, s.slots),
                       last(before, s.k)),
              last(y, s.k));
  }

  WorkerPool pool_{2};
  std::unique_ptr<Device> cpu_;
};

TEST_F(ExpertsTest, MakeOfARowWhatTheCpuMakes) {
  for (const int32_t rows : {1, 7, 8, 9, 16, 17, 33, 65}) {
    Run({6, 64, 48, 2}, rows, false);
    Run({9, 136, 72, 4}, rows, true);
  }
}

TEST_F(ExpertsTest, MultiplyIntegersExactly) {
  constexpr int32_t kExperts = 5, kN = 140, kK = 200, kSlots = 2, kRows = 19;
  const auto bytes = [&](size_t n) {
    std::vector<int8_t> out(n);
    for (int8_t& v : out) v = static_cast<int8_t>(Below(255) - 127);
    return out;
  };
  constexpr int64_t kStride = PlainRowBytes(kK, 1);
  const std::vector<int8_t> x = bytes(kRows * kStride);
  const std::vector<float> x_scales = Random(kRows);
  std::vector<std::vector<int8_t>> w;
  std::vector<std::vector<float>> scales, bias;
  std::vector<std::unique_ptr<DeviceArray<int8_t>>> on_device;
  std::vector<std::unique_ptr<DeviceArray<float>>> floats;
  std::vector<const void*> weights;
  std::vector<const float*> all_scales, all_bias;
  for (int32_t e = 0; e < kExperts; ++e) {
    w.push_back(bytes(kN * kStride));
    scales.push_back(Random(kN));
    bias.push_back(Random(kN));
    weights.push_back(on_device.emplace_back(std::make_unique<DeviceArray<int8_t>>(w[e]))->data());
    const auto put = [&](const std::vector<float>& v) {
      return floats.emplace_back(std::make_unique<DeviceArray<float>>(v))->data();
    };
    all_scales.push_back(put(scales[e]));
    all_bias.push_back(put(bias[e]));
  }
  std::vector<int32_t> ids;
  for (int32_t r = 0; r < kRows; ++r) {
    ids.push_back(Below(kExperts));
    ids.push_back(r == 3 ? -1 : (ids.back() + 1) % kExperts);  // row 3 has one expert only
  }
  constexpr int32_t kFirst = 3;  // the experts are numbers 3 to 7
  std::vector<int32_t> numbers = ids;
  for (int32_t& number : numbers) number += kFirst;
  DeviceArray<int8_t> dx(x);
  DeviceArray<float> dxs(x_scales), y(std::vector<float>(ids.size() * kN, 777.0f));
  DeviceArray<int32_t> di(numbers), order(ids.size()), num_blocks(size_t{1});
  DeviceArray<int32_t> blocks(size_t{3} * MostExpertBlocks(kRows * kSlots, kExperts, 8));
  DeviceArray<const void*> dw(weights);
  DeviceArray<const float*> ds(all_scales), db(all_bias);
  ExpertGemmArgs a;
  a.list = {order.data(), blocks.data(), num_blocks.data()};
  a.block_rows = 8;  // an expert has several blocks
  ASSERT_EQ(LaunchExpertList({di.data(), kRows * kSlots, kFirst, kExperts, a.block_rows, a.list},
                             nullptr),
            cudaSuccess);
  a.gemm.x = dx.data();
  a.gemm.x_stride = kStride;
  a.gemm.x_scales = dxs.data();
  a.gemm.y = y.data();
  a.gemm.y_stride = kN;
  a.gemm.y_element = Element::kFloat32;
  a.gemm.m = kRows;
  a.gemm.n = kN;
  a.gemm.k = kK;
  a.gemm.element = Element::kInt8;
  a.weights = dw.data();
  a.w_scales = ds.data();
  a.bias = db.data();
  a.x_slots = kSlots;
  a.ctas = 3;
  ASSERT_EQ(LaunchExpertGemm(a, nullptr), cudaSuccess);
  const std::vector<float> out = y.Read();
  for (size_t v = 0; v < ids.size(); ++v) {
    const size_t row = v / kSlots;
    for (int32_t n = 0; n < kN; ++n) {
      float expected = 777.0f;
      if (ids[v] >= 0) {
        int32_t sum = 0;
        for (int32_t i = 0; i < kK; ++i) sum += x[row * kStride + i] * w[ids[v]][n * kStride + i];
        const float scaled = static_cast<float>(sum) * x_scales[row];
        expected = scaled * scales[ids[v]][n] + bias[ids[v]][n];
      }
      ASSERT_EQ(out[v * kN + n], expected) << v << " " << n;
    }
  }
}

TEST_F(ExpertsTest, RoutesAsTheCpuDoes) {
  for (const int32_t experts : {4, 8, 60, 128, 256}) {
    for (int round = 0; round < 12; ++round) {
      RouterArgs a;
      a.rows = 1 + Below(9);
      a.num_experts = experts;
      a.score = RouteScore(Below(3));
      a.normalize = Below(2) == 0;
      a.num_groups = Below(2) == 0 ? 1 : experts / 4;
      if (a.num_groups > 32) a.num_groups = 32;
      if (experts % a.num_groups != 0) a.num_groups = 1;
      a.top_groups = 1 + Below(a.num_groups);
      a.top_k = 1 + Below(std::min(8, experts / a.num_groups * a.top_groups));
      a.group_best = 1 + Below(2);
      a.scale = 1.0f + Below(2);
      a.shared_scale = 1.0f + Below(2);
      a.shared = SharedExpert(Below(3));
      Route(a, round % 3 == 0, round % 4 == 3);
    }
  }
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
