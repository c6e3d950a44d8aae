// Every operation of a device against plain arithmetic in double. Inputs are new in each run; the seed is printed.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "backend/make_backend.h"
#include "base/half.h"

namespace penstock {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kSizes[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129};

/// A matrix that knows what its elements are after rounding to its type.
struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  DType dtype = DType::kFloat32;
  std::vector<float> values;       // rounded
  std::vector<uint16_t> halves;    // for the two-byte types

  float& at(int64_t r, int64_t c) { return values[r * cols + c]; }
  float at(int64_t r, int64_t c) const { return values[r * cols + c]; }
  const void* data() const { return dtype == DType::kFloat32 ? static_cast<const void*>(values.data()) : halves.data(); }
  Tensor tensor() {
    return {const_cast<void*>(data()), dtype, rows, cols, cols};
  }
  /// After an operation wrote the raw elements.
  void Read() {
    if (dtype == DType::kBFloat16) std::transform(halves.begin(), halves.end(), values.begin(), Bf16ToFloat);
  }
};

Matrix Filled(int64_t rows, int64_t cols, DType dtype, const std::function<float()>& next) {
  Matrix m{rows, cols, dtype, std::vector<float>(rows * cols), {}};
  for (float& v : m.values) v = next();
  if (dtype == DType::kFloat32) return m;
  for (float& v : m.values) {
    m.halves.push_back(dtype == DType::kBFloat16 ? FloatToBf16(v) : FloatToFp16(v));
    v = dtype == DType::kBFloat16 ? Bf16ToFloat(m.halves.back()) : Fp16ToFloat(m.halves.back());
  }
  return m;
}

double Tolerance(DType dtype) { return dtype == DType::kFloat32 ? 1e-5 : 1e-2; }

void ExpectClose(const Matrix& got, const std::vector<double>& expected) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (got.values[i] - expected[i]) * (got.values[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  EXPECT_TRUE(std::sqrt(error) <= Tolerance(got.dtype) * std::sqrt(norm))
      << std::sqrt(error / norm) << " for [" << got.rows << ", " << got.cols << "]";
}

class OpsParity : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const uint32_t seed = std::random_device()();
    std::printf("seed %u\n", seed);
    random_.seed(seed);
    auto device = MakeBackend(GetParam(), &pool_, note_);
    if (!device.ok()) GTEST_SKIP() << device.status();
    device_ = *std::move(device);
  }
  float Normal() { return std::normal_distribution<float>()(random_); }
  int64_t AnySize() { return kSizes[random_() % std::size(kSizes)]; }
  Matrix Random(int64_t rows, int64_t cols, DType dtype) {
    return Filled(rows, cols, dtype, [this] { return Normal(); });
  }
  static Matrix Poisoned(int64_t rows, int64_t cols, DType dtype) {
    return Filled(rows, cols, dtype, [] { return kPoison; });
  }
  static std::vector<DType> Activations() { return {DType::kFloat32, DType::kBFloat16}; }
  Ops& ops() { return device_->ops(); }

  std::mt19937 random_;
  WorkerPool pool_{2};
  std::string note_;
  std::unique_ptr<Device> device_;
};

TEST_P(OpsParity, LinearOfEverySizeFormatAndType) {
  const std::pair<WeightFormat, DType> formats[] = {{WeightFormat::kFloat32, DType::kFloat32},
                                                    {WeightFormat::kBFloat16, DType::kBFloat16},
                                                    {WeightFormat::kFloat16, DType::kFloat16}};
  for (const int64_t m : kSizes) {
    for (const int64_t n : kSizes) {
      const int64_t k = random_() % 4 == 0 ? 300 + AnySize() : AnySize();
      const auto& [format, weight_type] = formats[random_() % 3];
      const DType dtype = Activations()[random_() % 2];
      Matrix x = Random(m, k, dtype);
      Matrix w1 = Random(n, k, weight_type);
      Matrix w2 = Random(3, k, weight_type);
      Matrix bias = Random(1, n, DType::kBFloat16);
      const bool accumulate = random_() % 2 == 0;
      const LinearPart parts[] = {{w1.data(), bias.data(), DType::kBFloat16, n}, {w2.data(), nullptr, DType::kFloat32, 3}};
      const auto packed = device_->Pack(format, k, parts);
      ASSERT_TRUE(packed.ok());
      Matrix y = accumulate ? Random(m, n + 3, dtype) : Poisoned(m, n + 3, dtype);
      std::vector<double> expected(m * (n + 3));
      for (int64_t r = 0; r < m; ++r) {
        for (int64_t c = 0; c < n + 3; ++c) {
          double sum = accumulate ? y.at(r, c) : 0;
          if (c < n) sum += bias.at(0, c);
          for (int64_t i = 0; i < k; ++i) sum += double{x.at(r, i)} * (c < n ? w1.at(c, i) : w2.at(c - n, i));
          expected[r * (n + 3) + c] = sum;
        }
      }
      ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor(), .accumulate = accumulate});
      ASSERT_TRUE(device_->Synchronize().ok());
      y.Read();
      ExpectClose(y, expected);
    }
  }
}

TEST_P(OpsParity, LinearScalesAndCapsItsSum) {
  Matrix x = Random(5, 40, DType::kFloat32);
  Matrix w = Random(70, 40, DType::kFloat32);
  const LinearPart part[] = {{w.data(), nullptr, DType::kFloat32, 70}};
  const auto packed = device_->Pack(WeightFormat::kFloat32, 40, part);
  Matrix y = Poisoned(5, 70, DType::kFloat32);
  ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor(), .scale = 0.5f, .soft_cap = 3.0f});
  std::vector<double> expected;
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t c = 0; c < 70; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < 40; ++i) sum += double{x.at(r, i)} * w.at(c, i);
      expected.push_back(3 * std::tanh(0.5 * sum / 3));
    }
  }
  ExpectClose(y, expected);
}

TEST_P(OpsParity, LinearAcceptsNoRows) {
  Matrix x = Random(0, 40, DType::kFloat32);
  Matrix w = Random(7, 40, DType::kFloat32);
  const LinearPart part[] = {{w.data(), nullptr, DType::kFloat32, 7}};
  const auto packed = device_->Pack(WeightFormat::kFloat32, 40, part);
  Matrix y = Poisoned(0, 7, DType::kFloat32);
  ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor()});
  EXPECT_TRUE(device_->Synchronize().ok());
}

TEST_P(OpsParity, RmsNorm) {
  for (const DType dtype : Activations()) {
    for (const int64_t n : kSizes) {
      const int64_t m = AnySize();
      Matrix x = Random(m, n, dtype);
      Matrix w = Random(1, n, DType::kFloat32);
      Matrix y = Poisoned(m, n, dtype);
      ops().RmsNorm({x.tensor(), w.values.data(), 1e-3f, y.tensor()});
      y.Read();
      std::vector<double> expected(m * n);
      for (int64_t r = 0; r < m; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < n; ++i) squares += double{x.at(r, i)} * x.at(r, i);
        for (int64_t i = 0; i < n; ++i) {
          expected[r * n + i] = x.at(r, i) / std::sqrt(squares / n + 1e-3) * w.at(0, i);
        }
      }
      ExpectClose(y, expected);
    }
  }
}

TEST_P(OpsParity, GatedActivations) {
  const auto f = [](Activation activation, double x) {
    switch (activation) {
      case Activation::kSilu: return x / (1 + std::exp(-x));
      case Activation::kGelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
      case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      case Activation::kRelu: return std::max(x, 0.0);
    }
    return 0.0;
  };
  for (const DType dtype : Activations()) {
    for (const int64_t n : kSizes) {
      for (const Activation activation :
           {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
        const int64_t m = 1 + random_() % 20;
        Matrix x = Random(m, 2 * n, dtype);
        Matrix y = Poisoned(m, n, dtype);
        ops().GatedActivation(activation, x.tensor(), y.tensor());
        y.Read();
        std::vector<double> expected;
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t i = 0; i < n; ++i) expected.push_back(f(activation, x.at(r, i)) * x.at(r, n + i));
        }
        ExpectClose(y, expected);
      }
    }
  }
}

TEST_P(OpsParity, EmbedAndGatherRows) {
  for (const DType table_type : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const DType dtype : Activations()) {
      const int64_t n = AnySize();
      const int64_t m = AnySize();
      Matrix table = Random(50, n, table_type);
      std::vector<int32_t> ids(m);
      for (int32_t& id : ids) id = random_() % 50;
      BatchRows batch;
      batch.num_rows = static_cast<int32_t>(m);
      batch.ids = ids.data();
      Matrix y = Poisoned(m, n, dtype);
      ops().Embed(table.tensor(), batch, 2.5f, y.tensor());
      y.Read();
      std::vector<double> expected;
      for (const int32_t id : ids) {
        for (int64_t i = 0; i < n; ++i) expected.push_back(2.5 * table.at(id, i));
      }
      ExpectClose(y, expected);
      const std::vector<int32_t> rows = {static_cast<int32_t>(m - 1), 0};
      Matrix picked = Poisoned(2, n, dtype);
      ops().GatherRows(y.tensor(), rows, picked.tensor());
      picked.Read();
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(picked.at(0, i), y.at(m - 1, i));
        EXPECT_EQ(picked.at(1, i), y.at(0, i));
      }
    }
  }
}

/// A paged cache with room for a few sequences, blocks in random order.
struct Paged {
  HeadShape heads;
  int32_t block_size;
  DType dtype;
  std::vector<BlockId> tables;   // [num_slots, max_blocks]
  int32_t max_blocks;
  Matrix storage;                // [block * K|V * kv_head * token, dim]

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
  /// Element of K (kv 0) or V (kv 1).
  double at(int slot, int kv, int head, int position, int d) const {
    const int64_t block = tables[slot * max_blocks + position / block_size];
    const int64_t row = ((block * 2 + kv) * heads.num_kv_heads + head) * block_size + position % block_size;
    return storage.at(row, d);
  }
};

class PagedParity : public OpsParity {
 protected:
  Paged MakePaged(HeadShape heads, int32_t block_size, DType dtype, int num_slots, int max_len, bool poison) {
    Paged p;
    p.heads = heads;
    p.block_size = block_size;
    p.dtype = dtype;
    p.max_blocks = (max_len + block_size - 1) / block_size;
    p.tables.resize(num_slots * p.max_blocks);
    for (size_t i = 0; i < p.tables.size(); ++i) p.tables[i] = static_cast<BlockId>(i);
    std::shuffle(p.tables.begin(), p.tables.end(), random_);
    const int64_t rows = static_cast<int64_t>(p.tables.size()) * 2 * heads.num_kv_heads * block_size;
    p.storage = poison ? Poisoned(rows, heads.head_dim, dtype) : Random(rows, heads.head_dim, dtype);
    return p;
  }
  HeadShape AnyHeads() {
    const int32_t kv = 1 + random_() % 3;
    const int32_t dims[] = {8, 16, 20, 24, 32, 64, 80, 128};
    return {kv * static_cast<int32_t>(1 + random_() % 8), kv, dims[random_() % 8]};
  }
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
  for (int round = 0; round < 40; ++round) {
    const HeadShape heads = AnyHeads();
    const DType dtype = Activations()[round % 2];
    const DType kv_type = Activations()[round / 2 % 2];
    Paged cache = MakePaged(heads, round % 3 == 0 ? 32 : 16, kv_type, 3, 100, true);
    Rows rows;
    rows.Add(2, 13, 7);
    rows.Add(0, 99, 1);
    const int64_t dim = heads.head_dim;
    const int64_t width = (heads.num_heads + 2 * heads.num_kv_heads) * dim;
    const int32_t rotary = round % 4 == 3 ? static_cast<int32_t>(dim / 2 / 2 * 2) : static_cast<int32_t>(dim);
    Matrix table = Random(100, rotary, DType::kFloat32);
    Matrix q_norm = Random(1, dim, DType::kFloat32);
    Matrix k_norm = Random(1, dim, DType::kFloat32);
    const bool norm = round % 5 < 2;
    Matrix qkv = Random(8, width, dtype);
    const Matrix before = qkv;
    ops().RopeAndCache({qkv.tensor(), heads, norm ? q_norm.values.data() : nullptr, norm ? k_norm.values.data() : nullptr,
                        1e-3f, table.values.data(), rotary, cache.layer()},
                       rows.batch());
    ASSERT_TRUE(device_->Synchronize().ok());
    qkv.Read();
    cache.storage.Read();
    std::vector<double> expected_q, expected_kv;
    Matrix got_q{8, heads.num_heads * dim, dtype, {}, {}};
    Matrix got_kv{8, 2 * heads.num_kv_heads * dim, dtype == kv_type ? dtype : DType::kBFloat16, {}, {}};
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
              x[d] *= (h < heads.num_heads ? q_norm : k_norm).at(0, d) / std::sqrt(squares / dim + 1e-3);
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
            got_kv.values.push_back(
                static_cast<float>(cache.at(rows.slots[r], is_v ? 1 : 0, kv_head, rows.positions[r], d)));
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

std::vector<double> ExpectedAttention(const Matrix& q, const Paged& cache, const Rows& rows, const AttentionCase& c,
                                      const std::vector<float>& sinks) {
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

TEST_P(PagedParity, Attention) {
  const AttentionCase cases[] = {{0.2f, 0, 0, false},   {0.2f, 0, 24, false}, {0.3f, 5.0f, 0, false},
                                 {0.2f, 0, 0, true},    {0.2f, 0, 1, false},  {0.3f, 5.0f, 17, true},
                                 {0.2f, 0, 500, false}};
  for (int round = 0; round < 56; ++round) {
    const AttentionCase& c = cases[round % std::size(cases)];
    const HeadShape heads = AnyHeads();
    const DType dtype = Activations()[round % 2];
    Paged cache = MakePaged(heads, round % 3 == 0 ? 32 : 16, Activations()[round / 2 % 2], 4, 300, false);
    Rows rows;   // a decode, a first chunk, a later chunk across tiles, a decode at position 0
    rows.Add(3, static_cast<int32_t>(AnySize()), 1);
    rows.Add(0, 0, static_cast<int32_t>(AnySize()));
    rows.Add(1, 129, static_cast<int32_t>(AnySize()));
    rows.Add(2, 0, 1);
    const auto m = static_cast<int64_t>(rows.positions.size());
    Matrix q = Random(m, heads.num_heads * heads.head_dim, dtype);
    Matrix y = Poisoned(m, q.cols, dtype);
    std::vector<float> sinks(heads.num_heads);
    for (float& s : sinks) s = Normal();
    ops().Attention({.q = q.tensor(), .heads = heads, .cache = cache.layer(), .scale = c.scale, .soft_cap = c.soft_cap,
                     .window = c.window, .sinks = c.sinks ? sinks.data() : nullptr, .y = y.tensor()},
                    rows.batch());
    ASSERT_TRUE(device_->Synchronize().ok());
    y.Read();
    ExpectClose(y, ExpectedAttention(q, cache, rows, c, sinks));
  }
}

TEST_P(PagedParity, AttentionReadsNothingBeyondItsPositions) {
  const HeadShape heads{4, 2, 24};
  Paged cache = MakePaged(heads, 16, DType::kFloat32, 1, 64, false);
  Rows rows;
  rows.Add(0, 20, 3);
  Matrix q = Random(3, 96, DType::kFloat32);
  Matrix y = Poisoned(3, 96, DType::kFloat32);
  const auto run = [&] {
    ops().Attention({.q = q.tensor(), .heads = heads, .cache = cache.layer(), .scale = 0.2f, .window = 18, .y = y.tensor()},
                    rows.batch());
    return y.values;
  };
  const std::vector<float> clean = run();
  for (int position = 0; position < 64; ++position) {
    if (position >= 3 && position <= 22) continue;   // what a window of 18 lets positions 20 to 22 see
    for (int kv = 0; kv < 2; ++kv) {
      for (int head = 0; head < 2; ++head) {
        const int64_t row = ((cache.tables[position / 16] * 2 + kv) * 2 + head) * 16 + position % 16;
        for (int d = 0; d < 24; ++d) cache.storage.at(row, d) = kPoison;
      }
    }
  }
  cache.tables[3] = -1;
  const std::vector<float> poisoned = run();
  EXPECT_EQ(std::memcmp(clean.data(), poisoned.data(), clean.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, OpsParity, ::testing::Values("cpu"), [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Devices, PagedParity, ::testing::Values("cpu"), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace penstock
