// Operations on the paged cache against plain arithmetic in double; blocks in random order.
#include <cstring>

#include "model/network.h"
#include "parity/ops_parity.h"

namespace penstock {
namespace {

/// A paged cache with room for a few sequences, blocks in random order.
struct Paged {
  HeadShape heads;
  int32_t block_size;
  DType dtype;
  std::vector<BlockId> tables;  // [num_slots, max_blocks]
  int32_t max_blocks;
  Matrix storage;  // as KvLayer has it, in rows of head_dim elements

  KvLayer layer() {
    KvLayer l;
    l.data = const_cast<void*>(storage.data());
    l.dtype = dtype;
    l.head_stride = int64_t{block_size} * heads.head_dim;
    l.kv_stride = heads.num_kv_heads * l.head_stride;
    l.block_stride = 2 * l.kv_stride;
    l.block_size = block_size;
    l.tables = tables.data();
    l.max_blocks = max_blocks;
    return l;
  }
  /// Where element d of K (kv 0) or V (kv 1) lies.
  int64_t index(int slot, int kv, int head, int position, int d) const {
    const int64_t block = tables[slot * max_blocks + position / block_size];
    const int64_t begin = ((block * 2 + kv) * heads.num_kv_heads + head) * block_size;
    const int64_t within = position % block_size;
    return begin * heads.head_dim + (kv == 0
                                         ? KeyOffset(within, heads.head_dim, false) + d * kCacheUnit
                                         : within * heads.head_dim + d);
  }
  double at(int slot, int kv, int head, int position, int d) const {
    return storage.values[index(slot, kv, head, position, d)];
  }
};

class PagedParity : public OpsParity {
 protected:
  Paged MakePaged(HeadShape heads, int32_t block_size, DType dtype, int num_slots, int max_len,
                  bool poison) {
    Paged p;
    p.heads = heads;
    p.block_size = block_size;
    p.dtype = dtype;
    p.max_blocks = (max_len + block_size - 1) / block_size;
    p.tables.resize(num_slots * p.max_blocks);
    for (size_t i = 0; i < p.tables.size(); ++i) p.tables[i] = static_cast<BlockId>(i);
    std::shuffle(p.tables.begin(), p.tables.end(), random_);
    const int64_t rows =
        static_cast<int64_t>(p.tables.size()) * 2 * heads.num_kv_heads * block_size;
    p.storage =
        poison ? Poisoned(rows, heads.head_dim, dtype) : Random(rows, heads.head_dim, dtype);
    return p;
  }
  HeadShape AnyHeads() {
    const int32_t kv = 1 + random_() % 3;
    const int32_t dims[] = {8, 10, 20, 24, 32, 64, 80, 128};
    const int32_t dim = dims[random_() % 8] / abilities_.head_dim_unit * abilities_.head_dim_unit;
    return {kv * static_cast<int32_t>(1 + random_() % 8), kv, dim};
  }
  DType InputOf(int round) const { return Inputs()[round % Inputs().size()]; }
  DType CacheOf(int round, DType inputs) const {
    return abilities_.float32 ? Activations()[round / 2 % 2] : inputs;
  }
  /// Fewer where each takes a second.
  int Rounds(int all) const { return device_->shares_host_memory() ? all : all / 8; }
  KvLayer OnDevice(Paged& cache) {
    KvLayer layer = cache.layer();
    layer.data = OpsParity::OnDevice(cache.storage).data;
    return layer;
  }
  void ReadCache(const KvLayer& layer, Paged& cache) {
    const Matrix& s = cache.storage;
    Read({layer.data, s.dtype, s.rows, s.cols, s.cols}, cache.storage);
  }
  using OpsParity::OnDevice;
};

struct Rows {
  std::vector<int32_t> positions;
  std::vector<int32_t> slots;
  std::vector<SequenceRows> sequences;
  void Add(int32_t slot, int32_t begin, int32_t count) {
    sequences.push_back({slot, static_cast<int32_t>(positions.size()), count, begin});
    for (int32_t i = 0; i < count; ++i) {
      positions.push_back(begin + i);
      slots.push_back(slot);
    }
  }
  BatchRows batch() const {
    BatchRows b;
    b.num_rows = static_cast<int32_t>(positions.size());
    b.positions = positions.data();
    b.slots = slots.data();
    b.sequences = sequences;
    return b;
  }
};

TEST_P(PagedParity, RopeAndCache) {
  for (int round = 0; round < Rounds(40); ++round) {
    const HeadShape heads = AnyHeads();
    const DType dtype = InputOf(round);
    const DType kv_type = CacheOf(round, dtype);
    Paged cache = MakePaged(heads, round % 3 == 0 ? 32 : 16, kv_type, 3, 100, true);
    Rows rows;
    rows.Add(2, 13, 7);
    rows.Add(0, 99, 1);
    const int64_t dim = heads.head_dim;
    const int64_t width = (heads.num_heads + 2 * heads.num_kv_heads) * dim;
    const int32_t rotary =
        round % 4 == 3 ? static_cast<int32_t>(dim / 2 / 2 * 2) : static_cast<int32_t>(dim);
    Matrix table = Random(100, rotary, DType::kFloat32);
    Matrix q_norm = Random(1, dim, DType::kFloat32);
    Matrix k_norm = Random(1, dim, DType::kFloat32);
    const bool norm = round % 5 < 2;
    Matrix qkv = Random(8, width, dtype);
    const Matrix before = qkv;
    const Tensor turned = OnDevice(qkv);
    const KvLayer layer = OnDevice(cache);
    ops().RopeAndCache(
        {turned, heads, norm ? OnDevice(q_norm.values) : nullptr,
         norm ? OnDevice(k_norm.values) : nullptr, 1e-3f, OnDevice(table.values), rotary, layer},
        rows.batch());
    Read(turned, qkv);
    ReadCache(layer, cache);
    std::vector<double> expected_q, expected_kv;
    Matrix got_q{8, heads.num_heads * dim, dtype, {}, {}};
    Matrix got_kv{
        8, 2 * heads.num_kv_heads * dim, dtype == kv_type ? dtype : DType::kBFloat16, {}, {}};
    for (int r = 0; r < 8; ++r) {
      for (int h = 0; h < heads.num_heads + 2 * heads.num_kv_heads; ++h) {
        std::vector<double> x(dim);
        for (int64_t d = 0; d < dim; ++d) x[d] = before.at(r, h * dim + d);
        const bool is_v = h >= heads.num_heads + heads.num_kv_heads;
        if (!is_v) {
          if (norm) {
            double squares = 0;
            for (const double v : x) squares += v * v;
            for (int64_t d = 0; d < dim; ++d) {
              x[d] *= (h < heads.num_heads ? q_norm : k_norm).at(0, d) /
                      std::sqrt(squares / dim + 1e-3);
            }
          }
          for (int64_t i = 0; i < rotary / 2; ++i) {
            const double c = table.at(rows.positions[r], i);
            const double s = table.at(rows.positions[r], rotary / 2 + i);
            const double a = x[i];
            const double b = x[i + rotary / 2];
            x[i] = a * c - b * s;
            x[i + rotary / 2] = b * c + a * s;
          }
        }
        for (int64_t d = 0; d < dim; ++d) {
          if (h < heads.num_heads) {
            expected_q.push_back(x[d]);
            got_q.values.push_back(qkv.at(r, h * dim + d));
          } else {
            const int kv_head = (h - heads.num_heads) % heads.num_kv_heads;
            expected_kv.push_back(x[d]);
            got_kv.values.push_back(static_cast<float>(
                cache.at(rows.slots[r], is_v ? 1 : 0, kv_head, rows.positions[r], d)));
          }
        }
      }
    }
    ExpectClose(got_q, expected_q);
    ExpectClose(got_kv, expected_kv);
  }
}

struct AttentionCase {
  float scale;
  float soft_cap;
  int32_t window;
  bool sinks;
};

std::vector<double> ExpectedAttention(const Matrix& q, const Paged& cache, const Rows& rows,
                                      const AttentionCase& c, const std::vector<float>& sinks) {
  const HeadShape& heads = cache.heads;
  std::vector<double> expected(q.values.size());
  for (size_t r = 0; r < rows.positions.size(); ++r) {
    const int position = rows.positions[r];
    const int first = c.window > 0 ? std::max(0, position - c.window + 1) : 0;
    for (int h = 0; h < heads.num_heads; ++h) {
      const int kv_head = h / (heads.num_heads / heads.num_kv_heads);
      std::vector<double> scores;
      double best = c.sinks ? sinks[h] : -INFINITY;
      for (int t = first; t <= position; ++t) {
        double s = 0;
        for (int d = 0; d < heads.head_dim; ++d) {
          s += q.at(r, h * heads.head_dim + d) * cache.at(rows.slots[r], 0, kv_head, t, d);
        }
        s *= c.scale;
        if (c.soft_cap > 0) s = c.soft_cap * std::tanh(s / c.soft_cap);
        scores.push_back(s);
        best = std::max(best, s);
      }
      double total = c.sinks ? std::exp(sinks[h] - best) : 0;
      for (const double s : scores) total += std::exp(s - best);
      double* out = &expected[r * q.cols + h * heads.head_dim];
      for (size_t i = 0; i < scores.size(); ++i) {
        const double weight = std::exp(scores[i] - best) / total;
        for (int d = 0; d < heads.head_dim; ++d) {
          out[d] += weight * cache.at(rows.slots[r], 1, kv_head, first + static_cast<int>(i), d);
        }
      }
    }
  }
  return expected;
}

/// A processor that multiplies bfloat16 rounds queries and weights to it where the cache is not
/// float32.
double AttentionTolerance(DType y, DType cache) {
  return cache == DType::kFloat32 ? Tolerance(y) : std::max(Tolerance(y), 5e-3);
}

TEST_P(PagedParity, Attention) {
  const AttentionCase cases[] = {{0.2f, 0, 0, false},  {0.2f, 0, 24, false}, {0.3f, 5.0f, 0, false},
                                 {0.2f, 0, 0, true},   {0.2f, 0, 1, false},  {0.3f, 5.0f, 17, true},
                                 {0.2f, 0, 500, false}};
  for (int round = 0; round < Rounds(56); ++round) {
    const AttentionCase& c = cases[round % std::size(cases)];
    const HeadShape heads = AnyHeads();
    const DType dtype = InputOf(round);
    Paged cache = MakePaged(heads, round % 3 == 0 ? 32 : 16, CacheOf(round, dtype), 4, 300, false);
    Rows rows;  // a decode, a first chunk, a later chunk across tiles, a decode at position 0
    rows.Add(3, static_cast<int32_t>(AnySize()), 1);
    rows.Add(0, 0, static_cast<int32_t>(AnySize()));
    rows.Add(1, 129, static_cast<int32_t>(AnySize()));
    rows.Add(2, 0, 1);
    const auto m = static_cast<int64_t>(rows.positions.size());
    Matrix q = Random(m, heads.num_heads * heads.head_dim, dtype);
    Matrix y = Poisoned(m, q.cols, dtype);
    std::vector<float> sinks(heads.num_heads);
    for (float& s : sinks) s = Normal();
    const Tensor out = OnDevice(y);
    ops().Attention({.q = OnDevice(q),
                     .heads = heads,
                     .cache = OnDevice(cache),
                     .scale = c.scale,
                     .soft_cap = c.soft_cap,
                     .window = c.window,
                     .sinks = c.sinks ? OnDevice(sinks) : nullptr,
                     .y = out},
                    rows.batch());
    Read(out, y);
    ExpectClose(y, ExpectedAttention(q, cache, rows, c, sinks),
                AttentionTolerance(dtype, cache.storage.dtype));
    buffers_.clear();
  }
}

TEST_P(PagedParity, AttentionReadsNothingBeyondItsPositions) {
  const HeadShape heads{4, 2, 24};
  const DType dtype = InputOf(0);
  // A GPU's kernels promise less: what is no number may spoil a row of its item.
  const float poison = abilities_.float32 ? kPoison : 1e30f;
  for (const DType cached : Inputs()) {
    for (const int32_t last : {20, 21, 90, 149}) {  // of the rows: units and spans seen in part
      Paged cache = MakePaged(heads, 16, cached, 1, 176, false);
      Rows rows;
      rows.Add(0, last - 2, 3);
      const int32_t window = last - 2;  // position 0 is seen by nobody
      const Matrix q = Random(3, 96, dtype);
      const auto run = [&] {
        Matrix y = Poisoned(3, 96, dtype);
        const Tensor out = OnDevice(y);
        ops().Attention({.q = OnDevice(q),
                         .heads = heads,
                         .cache = OnDevice(cache),
                         .scale = 0.2f,
                         .window = window,
                         .y = out},
                        rows.batch());
        Read(out, y);
        return y.values;
      };
      const std::vector<float> clean = run();
      for (int position = 0; position < 176; ++position) {
        if (position > 0 && position <= last) continue;
        for (int kv = 0; kv < 2; ++kv) {
          for (int head = 0; head < 2; ++head) {
            for (int d = 0; d < 24; ++d) {
              const int64_t at = cache.index(0, kv, head, position, d);
              cache.storage.values[at] = poison;
              if (cached == DType::kBFloat16) cache.storage.halves[at] = FloatToBf16(poison);
            }
          }
        }
      }
      cache.tables[last / 16 + 1] = -1;
      const std::vector<float> poisoned = run();
      EXPECT_EQ(std::memcmp(clean.data(), poisoned.data(), clean.size() * sizeof(float)), 0);
    }
  }
}

/// A cache of codes holds what a cache of floats holds to half a scale, and attention over it is
/// attention over the numbers that the codes stand for.
TEST_P(PagedParity, EightBitCache) {
  for (int round = 0; round < Rounds(24); ++round) {
    const HeadShape heads = AnyHeads();
    const DType dtype = InputOf(round);
    const int32_t block_size = round % 3 == 0 ? 32 : 16;
    Paged floats = MakePaged(heads, block_size, DType::kFloat32, 3, 100, false);
    const int64_t codes = int64_t{block_size} * heads.head_dim;
    const int64_t head_stride = codes + block_size * static_cast<int64_t>(sizeof(float));
    std::vector<int8_t> bytes(floats.tables.size() * 2 * heads.num_kv_heads * head_stride, 99);
    KvLayer coded = floats.layer();
    coded.data = OnDevice(bytes.data(), bytes.size());
    coded.dtype = DType::kInt8;
    coded.scales_at = codes;
    coded.head_stride = head_stride;
    coded.kv_stride = heads.num_kv_heads * head_stride;
    coded.block_stride = 2 * coded.kv_stride;
    Rows rows;
    rows.Add(2, 0, 37);
    rows.Add(0, 0, 1 + static_cast<int32_t>(AnySize()) % 90);
    const auto m = static_cast<int64_t>(rows.positions.size());
    const int64_t width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim;
    Matrix qkv = Random(m, width, dtype);
    const auto write = [&](const KvLayer& cache) {
      const Matrix once = qkv;
      ops().RopeAndCache(
          {OnDevice(once), heads, nullptr, nullptr, 1e-3f, nullptr, 0, cache, 0, false, nullptr},
          rows.batch());
    };
    const KvLayer plain = OnDevice(floats);
    write(plain);
    write(coded);
    ReadCache(plain, floats);
    device_->CopyToHost(bytes.data(), coded.data, bytes.size());
    for (int64_t r = 0; r < m; ++r) {
      const int position = rows.positions[r];
      const int64_t block =
          floats.tables[rows.slots[r] * floats.max_blocks + position / block_size];
      const int64_t within = position % block_size;
      for (int kv = 0; kv < 2; ++kv) {
        for (int head = 0; head < heads.num_kv_heads; ++head) {
          const int8_t* base =
              &bytes[block * coded.block_stride + kv * coded.kv_stride + head * head_stride];
          float scale = 0;
          std::memcpy(&scale, base + codes + within * sizeof(float), sizeof(float));
          double most = 0;
          for (int d = 0; d < heads.head_dim; ++d) {
            float& number =
                floats.storage.values[floats.index(rows.slots[r], kv, head, position, d)];
            const int8_t code =
                kv == 0 ? base[KeyOffset(within, heads.head_dim, false) + d * kCacheUnit]
                        : base[within * heads.head_dim + d];
            most = std::max(most, std::abs(double{number}));
            ASSERT_NEAR(code * scale, number, 0.5001 * scale);
            number = static_cast<float>(code) * scale;
          }
          ASSERT_NEAR(scale, most / 127, 1e-6 * most);
        }
      }
    }
    Matrix q = Random(m, heads.num_heads * heads.head_dim, dtype);
    Matrix y = Poisoned(m, q.cols, dtype);
    AttentionArgs args{.q = OnDevice(q), .heads = heads, .cache = coded, .scale = 0.2f};
    args.window = round % 4 == 3 || (Rounds(24) < 24 && round == 1) ? 24 : 0;
    args.y = OnDevice(y);
    ops().Attention(args, rows.batch());
    Read(args.y, y);
    ExpectClose(y, ExpectedAttention(q, floats, rows, {0.2f, 0, args.window, false}, {}),
                AttentionTolerance(dtype, DType::kInt8));
  }
}

/// On devices that promise a row's bits for steps of few rows alone.
class ManyRowsAttention : public PagedParity {
 protected:
  /// Rows [begin, begin + count) of `q`, a sequence of its own, under `deterministic`.
  Matrix Attend(const std::string& deterministic, const Matrix& q, Paged& cache, int32_t begin,
                int32_t count) {
    BackendOptions options{GetParam(), &pool_};
    options.deterministic = deterministic;
    auto opened = OpenBackend(options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    std::swap(device_, opened->device);
    Matrix y = Poisoned(count, q.cols, DType::kBFloat16);
    {
      Rows rows;
      rows.Add(0, begin, count);
      const Tensor out = OnDevice(y);
      ops().Attention({.q = RowsOfTensor(OnDevice(q), begin, count),
                       .heads = cache.heads,
                       .cache = OnDevice(cache),
                       .scale = 0.2f,
                       .y = out},
                      rows.batch());
      Read(out, y);
      buffers_.clear();
    }
    std::swap(device_, opened->device);
    return y;
  }
};

TEST_P(ManyRowsAttention, TakesWideTilesWhereBitsAreNotPromised) {
  const HeadShape heads{4, 2, 32};
  const int32_t m = 100, few = 9;
  Paged cache = MakePaged(heads, 16, DType::kBFloat16, 1, m, false);
  const Matrix q = Random(m, 4 * 32, DType::kBFloat16);
  Rows rows;
  rows.Add(0, 0, m);
  const std::vector<double> expected = ExpectedAttention(q, cache, rows, {0.2f, 0, 0, false}, {});
  const Matrix strict = Attend("strict", q, cache, 0, m);
  const std::vector<float> last(strict.values.end() - few * q.cols, strict.values.end());
  ExpectClose(strict, expected, AttentionTolerance(DType::kBFloat16, DType::kBFloat16));
  for (const std::string fast : {"off", "run"}) {
    const Matrix y = Attend(fast, q, cache, 0, m);
    ExpectClose(y, expected, AttentionTolerance(DType::kBFloat16, DType::kBFloat16));
    EXPECT_NE(y.values, strict.values) << fast;
    EXPECT_EQ(Attend(fast, q, cache, m - few, few).values, last) << fast;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, PagedParity, ::testing::Values("cpu", "cuda-emulated", "cuda"),
                         NameOfDevice);
INSTANTIATE_TEST_SUITE_P(Devices, ManyRowsAttention, ::testing::Values("cuda-emulated", "cuda"),
                         NameOfDevice);

}  // namespace
}  // namespace penstock
