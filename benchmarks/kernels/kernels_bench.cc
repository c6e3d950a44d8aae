// The CPU's operations, each beside the machine's limits as measured in the same run. Flags are
// Google Benchmark's (--benchmark_filter, --benchmark_out=FILE --benchmark_out_format=json); the
// environment's PENSTOCK_THREADS sets the threads. Counters: Gops (2 for a multiply-add), GBs (of
// weights), and their shares of the limit: of_float, of_word, of_memory.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/make_backend.h"
#include "base/status_macros.h"
#include "model/rounded_rows.h"
#include "roofline.h"

namespace penstock {
namespace {

struct Bench {
  WorkerPool pool;
  std::unique_ptr<Device> device;
  Roofline limits;
  explicit Bench(int threads) : pool(threads) {
    auto made = OpenBackend({"cpu", &pool});
    CHECK(made.ok());
    device = std::move(made->device);
    limits = MeasureRoofline(pool);
  }
};

/// Weights that are neither zero nor all alike.
std::vector<uint16_t> Halves(int64_t size) {
  std::vector<uint16_t> out(size);
  uint32_t state = 9;
  for (uint16_t& h : out) {
    state = state * 1664525u + 1013904223u;
    h = static_cast<uint16_t>(0x3c00u | (state >> 16 & 0x80ffu));  // bfloat16 of about 0.01
  }
  return out;
}

struct Shape {
  const char* name;
  int64_t n, k;
};
constexpr Shape kShapes[] = {  // of Qwen2.5-0.5B
    {"qkv", 1152, 896},
    {"o", 896, 896},
    {"gate_up", 9728, 896},
    {"down", 896, 4864}};

void Report(benchmark::State& state, const Bench& bench, double operations, double bytes) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["Gops"] = benchmark::Counter(operations / 1e9, rate);
  state.counters["GBs"] = benchmark::Counter(bytes / 1e9, rate);
  state.counters["of_float"] =
      benchmark::Counter(operations / 1e9 / bench.limits.float_gflops, rate);
  state.counters["of_word"] = benchmark::Counter(operations / 1e9 / bench.limits.word_gops, rate);
  state.counters["of_memory"] = benchmark::Counter(bytes / 1e9 / bench.limits.memory_gbs, rate);
}

void Linear(benchmark::State& state, Bench* bench, Shape shape, const std::string& form,
            int64_t m) {
  std::vector<uint16_t> weights = Halves(shape.n * shape.k);
  const auto rule = ParseRoundingRule(form == "bf16" ? "none" : form);
  CHECK(rule.ok());
  const HostTensor plain{DType::kBFloat16, {shape.n, shape.k}, weights.data(), nullptr};
  std::unique_ptr<RoundedRows> codes;
  LinearPart part{.weight = weights.data(), .rows = shape.n, .format = WeightFormat::kBFloat16};
  if (rule->bits != 0) {
    codes = std::make_unique<RoundedRows>(plain, *rule);
    part = {.rows = shape.n, .codes = codes.get(), .integer_input = true};
  }
  // As many layers as the caches do not hold, as in a model.
  std::vector<PackedLinear> layers;
  size_t bytes = 0;
  while (layers.empty() || (bytes < size_t{96} << 20 && layers.size() < 64)) {
    auto packed = bench->device->Pack(shape.k, {part});
    CHECK(packed.ok());
    layers.push_back(*std::move(packed));
    bytes += layers.back().weight.bytes();
  }
  std::vector<float> x(m * shape.k, 0.25f), y(m * shape.n);
  const Tensor in{x.data(), DType::kFloat32, m, shape.k, shape.k};
  const Tensor out{y.data(), DType::kFloat32, m, shape.n, shape.n};
  size_t next = 0;
  for (auto _ : state) {
    bench->device->ops().Linear({.x = in, .w = &layers[next], .y = out});
    next = (next + 1) % layers.size();
    benchmark::DoNotOptimize(y.data());
  }
  Report(state, *bench, 2.0 * m * shape.n * shape.k, static_cast<double>(bytes / layers.size()));
}

/// Causal attention of `rows` new positions of each of `sequences` that have `context` before them.
void Attention(benchmark::State& state, Bench* bench, DType kv, int32_t sequences, int32_t rows,
               int32_t context) {
  constexpr HeadShape kHeads{14, 2, 64};
  constexpr int32_t kBlock = 16;
  const int32_t blocks = (context + rows + kBlock - 1) / kBlock;
  KvLayer cache;
  cache.dtype = kv;
  cache.scales_at = kv == DType::kInt8 ? kBlock * kHeads.head_dim : 0;
  cache.head_stride = kBlock * kHeads.head_dim + (kv == DType::kInt8 ? 4 * kBlock : 0);
  cache.kv_stride = kHeads.num_kv_heads * cache.head_stride;
  cache.block_stride = 2 * cache.kv_stride;
  const auto memory =
      bench->device->Allocate(int64_t{sequences} * blocks * cache.block_stride * DTypeSize(kv));
  CHECK(memory.ok());
  std::vector<BlockId> tables(sequences * blocks);
  std::vector<SequenceRows> slices;
  std::vector<int32_t> positions;
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t b = 0; b < blocks; ++b) tables[s * blocks + b] = s * blocks + b;
    slices.push_back({s, s * rows, rows, context});
    for (int32_t r = 0; r < rows; ++r) positions.push_back(context + r);
  }
  AttentionArgs a;
  a.heads = kHeads;
  cache.data = memory->data();
  cache.block_size = kBlock;
  cache.tables = tables.data();
  cache.max_blocks = blocks;
  a.cache = cache;
  a.scale = 0.125f;
  const int64_t width = kHeads.num_heads * kHeads.head_dim;
  std::vector<float> q(sequences * rows * width, 0.1f), y(q.size());
  a.q = {q.data(), DType::kFloat32, sequences * rows, width, width};
  a.y = {y.data(), DType::kFloat32, sequences * rows, width, width};
  BatchRows batch;
  batch.num_rows = sequences * rows;
  batch.positions = positions.data();
  batch.sequences = slices;
  for (auto _ : state) {
    bench->device->ops().Attention(a, batch);
    benchmark::DoNotOptimize(y.data());
  }
  const double pairs = sequences * (double{rows} * context + rows * (rows + 1) / 2.0);
  Report(state, *bench, 4.0 * pairs * width,
         double{sequences} * (context + rows) * 2 * kHeads.num_kv_heads * kHeads.head_dim *
             DTypeSize(kv));
}

void RegisterAll(Bench* bench) {
  for (const char* form : {"bf16", "int8-channel", "int8", "int4", "int4-128"}) {
    for (const Shape& shape : kShapes) {
      for (const int64_t m : {1, 4, 16, 64, 256, 512}) {
        benchmark::RegisterBenchmark(
            absl::StrCat("linear/", form, "/", shape.name, "/m:", m).c_str(),
            [=](benchmark::State& state) { Linear(state, bench, shape, form, m); })
            ->UseRealTime();
      }
    }
  }
  for (const DType kv : {DType::kFloat32, DType::kBFloat16, DType::kInt8}) {
    const std::string name(DTypeName(kv));
    const auto add = [&](const std::string& what, int32_t sequences, int32_t rows,
                         int32_t context) {
      benchmark::RegisterBenchmark(
          absl::StrCat("attention/", name, "/", what).c_str(),
          [=](benchmark::State& state) { Attention(state, bench, kv, sequences, rows, context); })
          ->UseRealTime();
    };
    add("prefill:512", 1, 512, 0);
    add("prefill:512/context:1536", 1, 512, 1536);
    add("decode:1/context:512", 1, 1, 512);
    add("decode:16/context:512", 16, 1, 512);
    add("decode:16/context:2048", 16, 1, 2048);
  }
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const char* threads = std::getenv("PENSTOCK_THREADS");
  penstock::Bench bench(threads != nullptr ? std::atoi(threads)
                                           : static_cast<int>(std::thread::hardware_concurrency()));
  benchmark::AddCustomContext("kernels", std::string(bench.device->name()));
  benchmark::AddCustomContext("threads", std::to_string(bench.pool.num_threads()));
  benchmark::AddCustomContext("limit_float_gflops", std::to_string(bench.limits.float_gflops));
  benchmark::AddCustomContext("limit_word_gops", std::to_string(bench.limits.word_gops));
  benchmark::AddCustomContext("limit_memory_gbs", std::to_string(bench.limits.memory_gbs));
  penstock::RegisterAll(&bench);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
