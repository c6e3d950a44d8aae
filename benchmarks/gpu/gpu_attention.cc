// Attention over a paged cache, and the draw of tokens.
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"
#include "benchmarks/gpu/gpu_bench.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

struct Case {
  const char* name;
  int32_t sequences, rows, context;  // each has `rows` new positions after `context`
};
constexpr Case kCases[] = {
    {"decode", 1, 1, 1024},  {"decode", 1, 1, 32768},   {"decode", 32, 1, 1024},
    {"decode", 32, 1, 4096}, {"decode", 128, 1, 1024},  {"decode", 256, 1, 1024},
    {"prefill", 1, 512, 0},  {"prefill", 1, 512, 3584}, {"prefill", 1, 2048, 0}};
constexpr Case kTinyCases[] = {{"decode", 2, 1, 40}, {"prefill", 1, 20, 0}};

void MeasureCase(GpuBench& bench, const Case& c, DType kv) {
  const bool tiny = bench.options().tiny;
  const HeadShape heads = tiny ? HeadShape{4, 2, 32} : HeadShape{32, 8, 128};
  constexpr int32_t kBlock = 16;
  const int32_t blocks = (c.context + c.rows + kBlock - 1) / kBlock;
  KvLayer cache;
  cache.dtype = kv;
  cache.block_size = kBlock;
  const bool codes = kv == DType::kInt8;
  cache.scales_at = codes ? kBlock * heads.head_dim : 0;
  cache.head_stride = kBlock * heads.head_dim + (codes ? 4 * kBlock : 0);
  cache.kv_stride = heads.num_kv_heads * cache.head_stride;
  cache.block_stride = 2 * cache.kv_stride;
  const size_t bytes = size_t(c.sequences) * blocks * cache.block_stride * DTypeSize(kv);
  cache.data = bench.Room(bytes);  // of zeros: every weight of the softmax is alike
  std::vector<BlockId> tables(size_t(c.sequences) * blocks);
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937(1));  // as in a cache that is in use
  cache.tables = tables.data();
  cache.max_blocks = blocks;
  std::vector<SequenceRows> slices;
  std::vector<int32_t> positions;
  std::vector<int32_t> slots;
  for (int32_t s = 0; s < c.sequences; ++s) {
    slices.push_back({s, s * c.rows, c.rows, c.context});
    for (int32_t r = 0; r < c.rows; ++r) {
      positions.push_back(c.context + r);
      slots.push_back(s);
    }
  }
  BatchRows batch;
  batch.num_rows = c.sequences * c.rows;
  batch.positions = positions.data();
  batch.slots = slots.data();
  batch.sequences = slices;
  const int64_t width = int64_t{heads.num_heads} * heads.head_dim;
  penstock::AttentionArgs a;
  a.heads = heads;
  a.cache = cache;
  a.scale = 0.09f;
  a.q = {bench.RoomOf<uint16_t>(batch.num_rows * width), DType::kBFloat16, batch.num_rows, width,
         width};
  a.y = {bench.RoomOf<uint16_t>(batch.num_rows * width), DType::kBFloat16, batch.num_rows, width,
         width};
  const double pairs = c.sequences * (double(c.rows) * c.context + c.rows * (c.rows + 1) / 2.0);
  bench.Measure(absl::StrCat("attention/", c.name),
                absl::StrCat("b", c.sequences, " rows", c.rows, " context", c.context),
                std::string(DTypeName(kv)),
                {static_cast<double>(bytes) + 4.0 * static_cast<double>(batch.num_rows * width),
                 4.0 * pairs * static_cast<double>(width), false},
                [&](int) { bench.device().ops().Attention(a, batch); });
  bench.ForgetRoom();
}

}  // namespace

void MeasureAttention(GpuBench& bench) {
  const auto cases =
      bench.options().tiny ? absl::MakeConstSpan(kTinyCases) : absl::MakeConstSpan(kCases);
  for (const DType kv : {DType::kBFloat16, DType::kInt8}) {
    for (const Case& c : cases) MeasureCase(bench, c, kv);
  }
}

/// With what the host does for a draw: sends, waits, reads.
void MeasureSampling(GpuBench& bench) {
  const int64_t vocab = bench.options().tiny ? 300 : 128256;
  for (const int64_t rows : {int64_t{1}, bench.options().tiny ? int64_t{2} : int64_t{64}}) {
    std::vector<float> values(rows * vocab);
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 3);
    for (float& v : values) v = normal(random);
    auto* logits = bench.RoomOf<float>(rows * vocab);
    bench.device().CopyToDevice(logits, values.data(), values.size() * sizeof(float));
    const Tensor t{logits, DType::kFloat32, rows, vocab, vocab};
    for (const std::string rule : {"greedy", "temperature", "top_p", "top_k"}) {
      SamplingParams params;
      params.temperature = rule == "greedy" ? 0.0f : 0.8f;
      if (rule == "top_p") params.top_p = 0.9f;
      if (rule == "top_k") params.top_k = 40;
      std::vector<SampleRow> drawn(rows);
      for (int64_t r = 0; r < rows; ++r) {
        drawn[r].row = r;
        drawn[r].position = 5;
        drawn[r].params = &params;
      }
      std::vector<SampledToken> tokens(rows);
      bench.Measure("sample", absl::StrCat("b", rows, " vocab", vocab), rule,
                    {4.0 * static_cast<double>(rows * vocab), 0, false},
                    [&](int) { bench.device().ops().Sample(t, drawn, absl::MakeSpan(tokens)); });
    }
    bench.ForgetRoom();
  }
}

}  // namespace penstock::PENSTOCK_KERNELS
