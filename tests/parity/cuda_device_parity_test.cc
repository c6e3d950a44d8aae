// What a GPU must have in common with the CPU bit for bit, through the interface of devices: products
// of integers, experts, draws, scores; and how a device goes on after a fault.
#include <cmath>
#include <cstring>
#include <numeric>

#include "fakes/codes_in_memory.h"
#include "parity/ops_parity.h"

namespace penstock {
namespace {

class CudaDeviceParity : public OpsParity {
 protected:
  void SetUp() override {
    OpsParity::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto cpu = OpenBackend({"cpu", &pool_});
    ASSERT_TRUE(cpu.ok());
    cpu_ = std::move(cpu->device);
  }
  int32_t Below(int32_t n) { return static_cast<int32_t>(random_() % n); }

  /// Rows of 8-bit integers, a scale each.
  CodesInMemory RandomBytes(int64_t rows, int64_t k) {
    QuantizedForm form;
    form.bits = 8;
    form.group = k;
    form.center = 128;
    std::vector<uint8_t> codes(rows * k);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random_());
    std::vector<float> scales(rows);
    for (float& scale : scales) scale = 0.01f * Normal();
    return {rows, k, form, codes, scales, {}};
  }

  /// The same layer on both devices.
  std::pair<PackedLinear, PackedLinear> PackOnBoth(int64_t k, absl::Span<const LinearPart> parts) {
    auto cpu = cpu_->Pack(k, parts);
    auto gpu = device_->Pack(k, parts);
    EXPECT_TRUE(cpu.ok() && gpu.ok()) << cpu.status() << gpu.status();
    return {*std::move(cpu), *std::move(gpu)};
  }

  std::unique_ptr<Device> cpu_;
};

TEST_P(CudaDeviceParity, LayersOfIntegersHaveTheCpusBits) {
  for (const int64_t k : {8, 72, 100, 300}) {
    for (const DType y_type : Activations()) {
      const int64_t n = 1 + Below(150);
      const CodesInMemory first = RandomBytes(n, k);
      const CodesInMemory second = RandomBytes(20, k);
      const Matrix bias = Random(1, n, DType::kBFloat16);
      std::vector<int32_t> order(20);  // rows of a part may come in any order
      std::iota(order.rbegin(), order.rend(), 0);
      const LinearPart parts[] = {
          {.bias = bias.data(),
           .bias_dtype = DType::kBFloat16,
           .rows = n,
           .codes = &first,
           .integer_input = true},
          {.rows = 20, .order = order, .codes = &second, .integer_input = true}};
      const auto [on_cpu, on_gpu] = PackOnBoth(k, parts);
      for (const int64_t m : {1, 9, 66}) {
        Matrix x = Random(m, k, DType::kBFloat16);
        Matrix expected = Random(m, n + 20, y_type);
        Matrix y = expected;
        const bool accumulate = Below(2) == 0;
        cpu_->ops().Linear(
            {.x = x.tensor(), .w = &on_cpu, .y = expected.tensor(), .accumulate = accumulate});
        expected.Read();
        const Tensor out = OnDevice(y);
        ops().Linear({.x = OnDevice(x), .w = &on_gpu, .y = out, .accumulate = accumulate});
        Read(out, y);
        EXPECT_EQ(y.values, expected.values) << m << " " << n << " " << k;
      }
    }
  }
}

TEST_P(CudaDeviceParity, APartInIntegersAndOneInNumbersAreOneLayer) {
  constexpr int64_t kM = 5, kN = 30, kK = 104;
  const CodesInMemory bytes = RandomBytes(kN, kK);
  const Matrix numbers = Random(kN, kK, DType::kBFloat16);
  const LinearPart parts[] = {
      {.rows = kN, .codes = &bytes, .integer_input = true},
      {.weight = numbers.data(), .rows = kN, .format = WeightFormat::kBFloat16}};
  const auto [on_cpu, on_gpu] = PackOnBoth(kK, parts);
  Matrix x = Random(kM, kK, DType::kBFloat16);
  Matrix expected = Poisoned(kM, 2 * kN, DType::kFloat32);
  Matrix y = expected;
  cpu_->ops().Linear({.x = x.tensor(), .w = &on_cpu, .y = expected.tensor()});
  const Tensor out = OnDevice(y);
  ops().Linear({.x = OnDevice(x), .w = &on_gpu, .y = out});
  Read(out, y);
  ExpectClose(y, {expected.values.begin(), expected.values.end()});
  for (int64_t r = 0; r < kM; ++r) {
    for (int64_t c = 0; c < kN; ++c) EXPECT_EQ(y.at(r, c), expected.at(r, c));
  }
}

TEST_P(CudaDeviceParity, ExpertsOfIntegersHaveTheCpusBits) {
  constexpr int32_t kExperts = 5, kSlots = 3;
  constexpr int64_t kK = 72;
  const int64_t inner[] = {40, 40, 40, 40,
                           56};  // the last, which all rows visit, is of its own size
  std::vector<ExpertWeights> on_cpu(kExperts), on_gpu(kExperts);
  for (int32_t e = 0; e < kExperts; ++e) {
    const CodesInMemory gate_up = RandomBytes(2 * inner[e], kK);
    const CodesInMemory down = RandomBytes(kK, inner[e]);
    const LinearPart gate_part[] = {
        {.rows = 2 * inner[e], .codes = &gate_up, .integer_input = true}};
    const LinearPart down_part[] = {{.rows = kK, .codes = &down, .integer_input = true}};
    std::tie(on_cpu[e].gate_up, on_gpu[e].gate_up) = PackOnBoth(kK, gate_part);
    std::tie(on_cpu[e].down, on_gpu[e].down) = PackOnBoth(inner[e], down_part);
  }
  for (const int64_t m : {1, 7, 40}) {
    Matrix x = Random(m, kK, DType::kBFloat16);
    Matrix expected = Random(m, kK, DType::kBFloat16);
    Matrix y = expected;
    std::vector<int32_t> ids;
    std::vector<float> weights;
    for (int64_t r = 0; r < m; ++r) {
      const int32_t first = Below(kExperts - 1);
      ids.insert(ids.end(), {first, (first + 1) % (kExperts - 1), kExperts - 1});
      for (int32_t s = 0; s < kSlots; ++s) weights.push_back(Normal());
    }
    ExpertsArgs args;
    args.x = x.tensor();
    args.ids = ids.data();
    args.weights = weights.data();
    args.num_slots = kSlots;
    args.experts = on_cpu;
    args.y = expected.tensor();
    cpu_->ops().Experts(args);
    expected.Read();
    args.x = OnDevice(x);
    args.ids = static_cast<const int32_t*>(OnDevice(ids.data(), ids.size() * sizeof(int32_t)));
    args.weights = OnDevice(weights);
    args.experts = on_gpu;
    args.y = OnDevice(y);
    ops().Experts(args);
    Read(args.y, y);
    EXPECT_EQ(y.values, expected.values) << m;
  }
}

class CudaSampling : public CudaDeviceParity {
 protected:
  /// One row's rules.
  struct Rules {
    SamplingParams params;
    std::vector<int32_t> counts;
    std::vector<TokenId> banned;
    std::vector<uint32_t> mask;
  };

  Rules RandomRules(int32_t vocab) {
    Rules r;
    SamplingParams& p = r.params;
    p.seed = uint64_t{random_()} << 32 | random_();
    p.temperature = Below(4) == 0 ? 0.0f : 0.3f + 0.1f * static_cast<float>(Below(15));
    if (Below(3) == 0) p.top_k = 1 + Below(40);
    if (Below(3) == 0) p.top_p = 0.1f + 0.1f * static_cast<float>(Below(9));
    if (Below(4) == 0) p.min_p = 0.05f;
    if (Below(4) == 0) p.logit_bias = {{Below(vocab), 3.0f}, {Below(vocab), -50.0f}};
    if (Below(5) == 0) p.allowed_token_ids = {Below(vocab), Below(vocab), vocab + 3};
    if (Below(4) == 0) r.banned = {Below(vocab), Below(vocab)};
    if (Below(3) == 0) {
      p.repetition_penalty = 1.2f;
      p.presence_penalty = 0.5f;
      p.frequency_penalty = 0.1f;
      r.counts.resize(2 * vocab);
      for (int32_t& count : r.counts) count = std::max(0, Below(5) - 2);
    }
    if (Below(4) == 0) {
      r.mask.resize((vocab + 31) / 32);
      for (uint32_t& word : r.mask) word = random_();
    }
    p.num_logprobs = Below(4) - 1;
    if (Below(3) == 0) p.logprob_token_ids = {Below(vocab), -1, vocab, Below(vocab)};
    return r;
  }

  static void ExpectSame(const SampledToken& got, const SampledToken& expected) {
    const auto near = [](float a, float b) {
      return std::isnan(b) ? std::isnan(a)
                           : a == b || std::abs(a - b) <= 1e-5f * std::max(1.0f, std::abs(b));
    };
    EXPECT_EQ(got.id, expected.id);
    EXPECT_EQ(got.rank, expected.rank);
    EXPECT_TRUE(near(got.logprob, expected.logprob)) << got.logprob << " " << expected.logprob;
    ASSERT_EQ(got.top.size(), expected.top.size());
    for (size_t i = 0; i < got.top.size(); ++i) {
      EXPECT_EQ(got.top[i].id, expected.top[i].id);
      EXPECT_EQ(got.top[i].rank, expected.top[i].rank);
      EXPECT_TRUE(near(got.top[i].logprob, expected.top[i].logprob));
    }
  }
};

TEST_P(CudaSampling, TokensAndTheirScoresAreTheCpus) {
  for (const int32_t vocab : {17, 317, 4099}) {
    const int32_t num_logits = 6;
    Matrix logits = Random(num_logits, vocab, DType::kFloat32);
    for (float& v : logits.values) v *= 3;
    std::fill_n(logits.values.begin() + 2 * vocab, vocab, kPoison);  // row 2 holds no number
    std::vector<Rules> rules;
    for (int i = 0; i < 24; ++i) rules.push_back(RandomRules(vocab));
    std::vector<SampleRow> rows(rules.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].row = Below(num_logits);
      rows[i].position = Below(5000);
      rows[i].params = &rules[i].params;
      rows[i].prompt_output_counts = rules[i].counts;
      rows[i].banned = rules[i].banned;
      rows[i].mask = rules[i].mask;
    }
    std::vector<SampledToken> expected(rows.size()), got(rows.size());
    cpu_->ops().Sample(logits.tensor(), rows, absl::MakeSpan(expected));
    const Tensor on_device = OnDevice(logits);
    ops().Sample(on_device, rows, absl::MakeSpan(got));
    for (size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "vocabulary " << vocab << ", row " << i);
      ExpectSame(got[i], expected[i]);
    }
    const std::vector<TokenId> ids = {0, vocab - 1, 3, -1, vocab, 5};
    for (const int32_t num_top : {0, 4, 3000}) {  // the kernel lists no more than 2048
      std::vector<SampledToken> scored(ids.size()), cpu_scored(ids.size());
      cpu_->ops().Score(logits.tensor(), ids, num_top, absl::MakeSpan(cpu_scored));
      ops().Score(on_device, ids, num_top, absl::MakeSpan(scored));
      for (size_t i = 0; i < ids.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "score " << i << " with " << num_top);
        ExpectSame(scored[i], cpu_scored[i]);
      }
    }
    ASSERT_TRUE(device_->Synchronize().ok());
  }
}

TEST_P(CudaDeviceParity, ATableOfCodesEmbedsAsOnTheCpu) {
  constexpr int64_t kRows = 150, kK = 200;
  for (const bool integers : {false, true}) {
    for (const int bits : {4, 8}) {
      if (integers && bits == 4) continue;
      QuantizedForm form;
      form.bits = bits;
      form.group = integers ? kK : 32;
      form.center = bits == 4 ? 8 : 128;
      form.has_offset = !integers && Below(2) == 0;
      std::vector<uint8_t> codes(kRows * kK);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random_() % (1 << bits));
      const int64_t groups = (kK + form.group - 1) / form.group;
      const Matrix scales = Random(kRows, groups, DType::kBFloat16);
      const Matrix offsets = Random(kRows, groups, DType::kBFloat16);
      const CodesInMemory table(kRows, kK, form, codes, scales.values,
                                form.has_offset ? offsets.values : std::vector<float>());
      const LinearPart part[] = {{.rows = kRows, .codes = &table, .integer_input = integers}};
      const auto [on_cpu, on_gpu] = PackOnBoth(kK, part);
      const std::vector<int32_t> ids = {149, 0, 7, 128, 127, 7};
      Matrix expected = Random(static_cast<int64_t>(ids.size()), kK, DType::kBFloat16);
      Matrix y = expected;
      EmbedArgs args;
      args.ids = ids.data();
      args.scale = 1.5f;
      args.accumulate = integers;
      args.packed = &on_cpu;
      args.y = expected.tensor();
      cpu_->ops().Embed(args);
      expected.Read();
      args.packed = &on_gpu;
      args.y = OnDevice(y);
      ops().Embed(args);
      Read(args.y, y);
      EXPECT_EQ(y.values, expected.values) << bits << " bits, integers " << integers;
    }
  }
}

TEST_P(CudaDeviceParity, CopiesAreInOrderWithOperations) {
  std::vector<int32_t> values(1000), read(values.size(), -1);
  std::iota(values.begin(), values.end(), 0);
  const size_t bytes = values.size() * sizeof(int32_t);
  auto a = device_->Allocate(bytes);
  auto b = device_->Allocate(bytes);
  ASSERT_TRUE(a.ok() && b.ok());
  device_->CopyToHost(read.data(), b->data(), bytes);
  EXPECT_EQ(read, std::vector<int32_t>(values.size()));  // fresh memory is zero
  device_->CopyToDevice(a->data(), values.data(), bytes);
  device_->CopyOnDevice(b->data(), a->data(), bytes);
  device_->CopyOnDevice(a->data(), nullptr, bytes);
  device_->CopyToHost(read.data(), b->data(), bytes);
  EXPECT_EQ(read, values);
  device_->CopyToHost(read.data(), a->data(), bytes);
  EXPECT_EQ(read, std::vector<int32_t>(values.size()));
}

TEST_P(CudaDeviceParity, AFaultStaysAndNothingRunsAfterIt) {
  Matrix x = Random(4, 16, DType::kBFloat16);
  Matrix y = Random(4, 16, DType::kBFloat16);
  const Matrix before = y;
  const Tensor in = OnDevice(x);
  const Tensor out = OnDevice(y);
  ASSERT_TRUE(device_->Synchronize().ok());
  const PackedLinear w;
  const Matrix other = Random(4, 16, DType::kFloat16);  // which no weights on this device are
  ops().Linear({.x = OnDevice(other), .w = &w, .y = out});
  ops().Activate({.gate = in, .y = out});
  const absl::Status fault = device_->Synchronize();
  EXPECT_TRUE(absl::IsUnimplemented(fault)) << fault;
  EXPECT_NE(fault.message().find("Linear"), absl::string_view::npos) << fault;
  std::vector<SampledToken> tokens(1);
  const SamplingParams greedy;
  SampleRow row;
  row.params = &greedy;
  const Matrix logits = Random(1, 50, DType::kFloat32);
  ops().Sample(in, {&row, 1}, absl::MakeSpan(tokens));
  EXPECT_EQ(tokens[0].id, -1);
  EXPECT_EQ(device_->Synchronize(), fault);
  EXPECT_EQ(device_->Allocate(64).status(), fault);
  buffers_.clear();
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaDeviceParity, ::testing::Values("cuda-emulated", "cuda"),
                         NameOfDevice);
INSTANTIATE_TEST_SUITE_P(Devices, CudaSampling, ::testing::Values("cuda-emulated", "cuda"),
                         NameOfDevice);

/// The emulator names the kernel and what it did; another device goes on.
TEST(EmulatedFault, OfAKernelIsTheDevicesAlone) {
  WorkerPool pool(1);
  auto opened = OpenBackend({"cuda-emulated", &pool});
  if (absl::IsUnavailable(opened.status())) GTEST_SKIP() << opened.status();
  ASSERT_TRUE(opened.ok());
  Device& device = *opened->device;
  auto table = device.Allocate(10 * 16 * sizeof(float));
  auto out = device.Allocate(16 * sizeof(float));
  ASSERT_TRUE(table.ok() && out.ok());
  const int32_t beyond = 1000;
  EmbedArgs args;
  args.table = {table->data(), DType::kFloat32, 10, 16, 16};
  args.ids = &beyond;
  args.y = {out->data(), DType::kFloat32, 1, 16, 16};
  device.ops().Embed(args);
  const absl::Status fault = device.Synchronize();
  EXPECT_TRUE(absl::IsInternal(fault)) << fault;
  EXPECT_NE(fault.message().find("kernel embed"), absl::string_view::npos) << fault;
  EXPECT_NE(fault.message().find("out of bounds"), absl::string_view::npos) << fault;
  auto other = OpenBackend({"cuda-emulated", &pool});
  ASSERT_TRUE(other.ok());
  auto buffer = other->device->Allocate(64);
  EXPECT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_TRUE(other->device->Synchronize().ok());
}

}  // namespace
}  // namespace penstock
