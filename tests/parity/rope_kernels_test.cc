// Rotary embedding and the paged cache on a GPU or under the emulator: equal to the CPU backend's
// kernel where no sum is involved, close to it where heads are normalised.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "backend/cpu/kernels.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

struct RopeCase {
  Element element = Element::kBFloat16;
  Element cache = Element::kBFloat16;
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 64;
  int32_t rotary_dim = 64;
  int32_t rotary_begin = 0;
  bool norms = false;
  bool sums = false;
  bool keys_are_values = false;
  bool q_scale = false;
  friend std::ostream& operator<<(std::ostream& os, const RopeCase& c) {
    return os << "element " << int(c.element) << " cache " << int(c.cache) << " dim " << c.head_dim
              << " rotary " << c.rotary_begin << "+" << c.rotary_dim << " norms " << c.norms
              << " sums " << c.sums << " keys are values " << c.keys_are_values;
  }
};

class RopeTest : public KernelRows {
 protected:
  static constexpr int32_t kBlockSize = 32;
  static constexpr int32_t kBlocks = 9;
  static constexpr int32_t kMaxBlocks = 3;
  static constexpr int32_t kSlots = 3;

  void ExpectClose(const std::vector<float>& got, const std::vector<float>& expected, bool equal,
                   Element element) {
    ASSERT_EQ(got.size(), expected.size());
    double error = 0, norm = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      if (equal) {
        ASSERT_EQ(got[i], expected[i]) << "at " << i;
      }
      error += std::pow(got[i] - expected[i], 2);
      norm += std::pow(expected[i], 2);
    }
    ASSERT_LE(std::sqrt(error), ToleranceOf(element) * std::sqrt(norm));
  }

  void Run(const RopeCase& c) {
    SCOPED_TRACE(testing::PrintToString(c));
    const int32_t rows = 1 + Below(9);
    const int32_t dim = c.head_dim;
    const int32_t kv_parts = c.keys_are_values ? 1 : 2;
    const int32_t width = (c.num_heads + kv_parts * c.num_kv_heads) * dim;
    const Sums sums = RandomSums(rows, width);
    std::vector<float> x = Random(size_t(rows) * width, c.element);
    if (c.sums) {
      for (size_t i = 0; i < x.size(); ++i) x[i] = RoundedTo(c.element, sums.values[i]);
    }
    const std::vector<float> q_norm = Random(dim), k_norm = Random(dim);
    const std::vector<float> cos_sin = Random(size_t(kBlockSize) * kMaxBlocks * c.rotary_dim);
    const std::vector<float> q_scale = Random(size_t(kBlockSize) * kMaxBlocks);

    // Every row at a place of its own; the last is a padded row, the one before lies in no block.
    std::vector<int32_t> places(kSlots * kMaxBlocks * kBlockSize);
    std::iota(places.begin(), places.end(), 0);
    std::shuffle(places.begin(), places.end(), random_);
    std::vector<int32_t> tables(kSlots * kMaxBlocks);
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), random_);
    std::vector<int32_t> slots(rows), positions(rows), rope_rows(rows);
    for (int32_t r = 0; r < rows; ++r) {
      slots[r] = places[r] / (kMaxBlocks * kBlockSize);
      positions[r] = places[r] % (kMaxBlocks * kBlockSize);
      rope_rows[r] = Below(kMaxBlocks * kBlockSize);
    }
    if (rows > 2) {
      slots[rows - 1] = -1;
      const int32_t lost = slots[rows - 2] * kMaxBlocks + positions[rows - 2] / kBlockSize;
      tables[lost] = -1;
    }

    const auto kv_bytes = static_cast<int64_t>(BytesOf(c.cache));
    const bool bytes = c.cache == Element::kInt8;
    const int64_t data_elements = int64_t{kBlockSize} * dim;
    const int64_t head_stride = data_elements + (bytes ? kBlockSize * 4 : 0);
    const int64_t kv_stride = c.keys_are_values ? 0 : head_stride * c.num_kv_heads;
    const int64_t block_stride = head_stride * c.num_kv_heads * kv_parts;
    const std::vector<uint8_t> fresh(block_stride * kBlocks * kv_bytes, 0x3c);
    std::vector<uint8_t> cpu_cache = fresh;

    DeviceRows dx(c.element, x), out(c.element, x.size());
    DeviceSums ds(sums);
    DeviceArray<float> dq(q_norm), dk(k_norm), dcs(cos_sin), dqs(q_scale);
    DeviceArray<int32_t> dslots(slots), dpositions(positions), drope(rope_rows), dtables(tables);
    DeviceArray<uint8_t> cache(fresh);
    RopeArgs a;
    a.x = c.sums ? ds.Input(width) : RowInput{dx.data(), width};
    const bool in_place = !c.sums && Below(2) == 0;
    a.qkv = in_place ? dx.data() : out.data();
    a.qkv_stride = width;
    a.num_heads = c.num_heads;
    a.num_kv_heads = c.num_kv_heads;
    a.head_dim = dim;
    a.q_norm = c.norms ? dq.data() : nullptr;
    a.k_norm = c.norms ? dk.data() : nullptr;
    a.v_norm = c.norms;
    a.norm_eps = 1e-5f;
    a.cos_sin = c.rotary_dim > 0 ? dcs.data() : nullptr;
    a.rotary_dim = c.rotary_dim;
    a.rotary_begin = c.rotary_begin;
    a.q_scale = c.q_scale ? dqs.data() : nullptr;
    a.positions = dpositions.data();
    const bool own_rows = Below(2) == 0;
    a.rope_rows = own_rows ? drope.data() : nullptr;
    a.slots = dslots.data();
    a.cache.data = cache.data();
    a.cache.block_stride = block_stride;
    a.cache.kv_stride = kv_stride;
    a.cache.head_stride = head_stride;
    a.cache.scales_at = bytes ? data_elements : 0;
    a.cache.block_size = kBlockSize;
    a.cache.tables = dtables.data();
    a.cache.max_blocks = kMaxBlocks;
    a.cache.element = c.cache;
    a.rows = rows;
    a.element = c.element;
    ASSERT_EQ(LaunchRope(a, nullptr), cudaSuccess);

    std::vector<uint8_t> cpu_x = Encoded(c.element, x);
    for (int32_t r = 0; r < rows; ++r) {
      RopeRowArgs row;
      row.bf16 = c.element == Element::kBFloat16;
      row.kv_type = c.cache == Element::kFloat32    ? DType::kFloat32
                    : c.cache == Element::kBFloat16 ? DType::kBFloat16
                                                    : DType::kInt8;
      row.qkv = cpu_x.data() + size_t(r) * width * BytesOf(c.element);
      row.heads = {c.num_heads, c.num_kv_heads, dim};
      row.q_norm = c.norms ? q_norm.data() : nullptr;
      row.k_norm = c.norms ? k_norm.data() : nullptr;
      row.norm_eps = 1e-5f;
      row.cos_sin =
          c.rotary_dim > 0
              ? cos_sin.data() + int64_t{own_rows ? rope_rows[r] : positions[r]} * c.rotary_dim
              : nullptr;
      row.rotary_dim = c.rotary_dim;
      row.rotary_begin = c.rotary_begin;
      row.v_norm = c.norms;
      row.q_scale = c.q_scale ? q_scale[positions[r]] : 1.0f;
      row.head_stride = head_stride;
      const int32_t block =
          slots[r] < 0 ? -1 : tables[slots[r] * kMaxBlocks + positions[r] / kBlockSize];
      if (block >= 0) {
        const int64_t within = positions[r] % kBlockSize;
        uint8_t* keys = cpu_cache.data() + block * block_stride * kv_bytes;
        row.k_out = keys + KeyOffset(within, dim, c.keys_are_values) * kv_bytes;
        if (!c.keys_are_values) row.v_out = keys + (kv_stride + within * dim) * kv_bytes;
        if (bytes) {
          row.k_scale = reinterpret_cast<float*>(keys + data_elements) + within;
          row.v_scale = reinterpret_cast<float*>(keys + kv_stride + data_elements) + within;
        }
      }
      Avx2Kernels().rope_row(row);
    }

    // Queries and keys of every row; of rows in no block the CPU does not norm the values.
    std::vector<float> got = in_place ? dx.Values() : out.Values();
    std::vector<float> expected = Decoded(c.element, cpu_x);
    const int32_t rotated = (c.num_heads + c.num_kv_heads) * dim;
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t i = rotated; i < width; ++i) {
        if (c.norms) got[r * width + i] = expected[r * width + i] = 0;
      }
    }
    ExpectClose(got, expected, !c.norms, c.element);
    const std::vector<uint8_t> cached = cache.Read();
    if (!c.norms) {
      EXPECT_TRUE(cached == cpu_cache);
    } else if (bytes) {
      int32_t far = 0;  // a code may differ by one where the norm's last bit does
      for (size_t i = 0; i < cached.size(); ++i) {
        const int64_t in_head = static_cast<int64_t>(i) % head_stride;
        if (in_head >= data_elements) continue;
        far += std::abs(static_cast<int8_t>(cached[i]) - static_cast<int8_t>(cpu_cache[i])) > 1;
      }
      EXPECT_EQ(far, 0);
    } else {  // and so may the last bit of a cache that is coarser than what is put in it
      const Element coarser = c.cache == Element::kFloat32 ? c.element : c.cache;
      ExpectClose(Decoded(c.cache, cached), Decoded(c.cache, cpu_cache), false, coarser);
    }
  }
};

TEST_F(RopeTest, IsTheCpus) {
  const Element caches[] = {Element::kFloat32, Element::kBFloat16, Element::kInt8};
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const Element cache : caches) {
      for (const int32_t dim : {16, 20, 32, 64, 80, 96, 128, 256, 512}) {
        for (int which = 0; which < 4; ++which) {
          RopeCase c{element, cache};
          c.head_dim = dim;
          c.rotary_dim = which == 0 ? dim : which == 1 ? dim / 2 : which == 2 ? 4 : 0;
          c.rotary_begin = which == 2 ? dim - 4 : 0;
          c.num_kv_heads = 1 + Below(3);
          c.num_heads = c.num_kv_heads * (1 + Below(3));
          c.sums = Below(2) == 0;
          c.keys_are_values = Below(4) == 0;
          c.q_scale = Below(3) == 0;
          Run(c);
        }
      }
    }
  }
}

TEST_F(RopeTest, NormsHeadsAsTheCpuDoes) {
  const Element caches[] = {Element::kFloat32, Element::kBFloat16, Element::kInt8};
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const Element cache : caches) {
      for (const int32_t dim : {16, 20, 64, 96, 128, 256, 512}) {
        RopeCase c{element, cache};
        c.head_dim = dim;
        c.rotary_dim = dim;
        c.norms = true;
        c.sums = Below(2) == 0;
        Run(c);
      }
    }
  }
}

TEST_F(RopeTest, TooWideAHeadIsRefused) {
  RopeArgs a;
  a.rows = 1;
  a.head_dim = 513;
  EXPECT_EQ(LaunchRope(a, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
