// Sequences with a paged cache, attended to on a GPU or under the emulator, and the same in float64.
// Owns the buffers. Must not know which kernels there are.
// Threads: confined to one thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/cuda/attention_plan.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {

struct AttentionShape {
  Element element = Element::kBFloat16;
  Element cache = Element::kBFloat16;
  int32_t head_dim = 64;
  int32_t num_kv_heads = 2;
  int32_t group = 2;
  int32_t window = 0;
  float soft_cap = 0;
  bool sinks = false;
  bool keys_are_values = false;
  int32_t key_unit = 16;
  int32_t block_size = 16;
  int32_t widest_tile = 16;
  int32_t chunk = 0;
  int32_t num_ctas = 3;

  int32_t num_heads() const { return num_kv_heads * group; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }
  friend std::ostream& operator<<(std::ostream& os, const AttentionShape& s) {
    return os << "element " << int(s.element) << " cache " << int(s.cache) << " dim " << s.head_dim
              << " heads " << s.num_kv_heads << " x " << s.group << " window " << s.window
              << " cap " << s.soft_cap << " sinks " << s.sinks << " keys are values "
              << s.keys_are_values << " unit " << s.key_unit << " block " << s.block_size
              << " tile " << s.widest_tile << " chunk " << s.chunk << " ctas " << s.num_ctas;
  }
};

/// One sequence's part of a step, as numbers; codes where the cache is int8.
struct AttentionSequence {
  int32_t num_rows = 0;
  int32_t position_begin = 0;
  std::vector<float> q;                 // [num_rows, num_heads, head_dim]
  std::vector<float> k, v;              // [positions, num_kv_heads, head_dim]
  std::vector<float> k_scale, v_scale;  // [positions, num_kv_heads]

  int32_t num_positions() const { return position_begin + num_rows; }
};

/// A block of one head: what RowCache says.
class PagedCache {
 public:
  PagedCache(const AttentionShape& s, int32_t num_blocks) : s_(s) {
    bytes_ = static_cast<int64_t>(BytesOf(s.cache));
    data_elements_ = int64_t{s.block_size} * s.head_dim;
    const bool is_int8 = s.cache == Element::kInt8;
    layout.head_stride = data_elements_ + (is_int8 ? s.block_size * 4 : 0);
    layout.kv_stride = s.keys_are_values ? 0 : layout.head_stride * s.num_kv_heads;
    layout.block_stride = layout.head_stride * s.num_kv_heads * (s.keys_are_values ? 1 : 2);
    layout.scales_at = is_int8 ? data_elements_ : 0;
    layout.block_size = s.block_size;
    layout.key_unit = s.key_unit;
    layout.element = s.cache;
    raw.assign(layout.block_stride * num_blocks * bytes_, 0xff);  // nothing that is a number
  }
  void Put(int32_t block, int32_t within, int32_t head, const AttentionSequence& from,
           int32_t position) {
    const int64_t first = block * layout.block_stride + head * layout.head_stride;
    const int32_t unit = s_.keys_are_values ? 1 : s_.key_unit;
    const size_t at = (size_t(position) * s_.num_kv_heads + head) * s_.head_dim;
    for (int32_t i = 0; i < s_.head_dim; ++i) {
      PutNumber(first + within / unit * unit * s_.head_dim + within % unit + i * unit,
                from.k[at + i]);
      if (!s_.keys_are_values) {
        PutNumber(first + layout.kv_stride + within * s_.head_dim + i, from.v[at + i]);
      }
    }
    if (s_.cache != Element::kInt8) return;
    const size_t scale_at = size_t(position) * s_.num_kv_heads + head;
    std::memcpy(&raw[first + layout.scales_at + within * 4], &from.k_scale[scale_at], 4);
    if (s_.keys_are_values) return;
    std::memcpy(&raw[first + layout.kv_stride + layout.scales_at + within * 4],
                &from.v_scale[scale_at], 4);
  }

  RowCache layout;
  std::vector<uint8_t> raw;

 private:
  void PutNumber(int64_t element, float v) {
    if (s_.cache == Element::kInt8) {
      raw[element] = static_cast<uint8_t>(static_cast<int8_t>(v));
    } else {
      const std::vector<uint8_t> encoded = Encoded(s_.cache, {v});
      std::memcpy(&raw[element * bytes_], encoded.data(), bytes_);
    }
  }

  AttentionShape s_;
  int64_t bytes_ = 0;
  int64_t data_elements_ = 0;
};

class AttentionCase : public KernelRows {
 protected:
  AttentionSequence RandomSequence(const AttentionShape& s, int32_t num_rows,
                                   int32_t position_begin) {
    AttentionSequence out;
    out.num_rows = num_rows;
    out.position_begin = position_begin;
    out.q = Random(size_t(num_rows) * s.num_heads() * s.head_dim, s.element);
    const size_t heads = size_t(out.num_positions()) * s.num_kv_heads;
    out.k = Random(heads * s.head_dim, s.cache);
    out.v = Random(heads * s.head_dim, s.cache);
    out.k_scale.assign(heads, 1.0f);
    out.v_scale.assign(heads, 1.0f);
    if (s.cache == Element::kInt8) {
      for (std::vector<float>* of : {&out.k, &out.v}) {
        for (float& v : *of) v = std::clamp(std::nearbyint(v * 40), -127.0f, 127.0f);
      }
      for (std::vector<float>* of : {&out.k_scale, &out.v_scale}) {
        for (float& v : *of) v = (1.0f + static_cast<float>(Below(100))) / 2000;
      }
    }
    if (s.keys_are_values) {
      out.v = out.k;
      out.v_scale = out.k_scale;
    }
    return out;
  }
  std::vector<float> RandomSinks(const AttentionShape& s) { return Random(s.num_heads()); }

  /// [rows, num_heads, head_dim] of each sequence; a padded row lies before every one of them.
  std::vector<std::vector<float>> Attend(const AttentionShape& s,
                                         const std::vector<const AttentionSequence*>& sequences,
                                         const std::vector<float>& sinks) {
    std::vector<SequenceRows> batch;
    std::vector<int32_t> slots(sequences.size() + 2);
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), random_);
    int32_t num_rows = 0, max_blocks = 1, num_blocks = 1;
    for (size_t i = 0; i < sequences.size(); ++i) {
      ++num_rows;
      const AttentionSequence& of = *sequences[i];
      batch.push_back({slots[i], num_rows, of.num_rows, of.position_begin});
      num_rows += of.num_rows;
      const int32_t blocks = (of.num_positions() + s.block_size - 1) / s.block_size;
      max_blocks = std::max(max_blocks, blocks);
      num_blocks += blocks;
    }
    std::vector<int32_t> blocks(num_blocks);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random_);
    PagedCache cache(s, num_blocks);
    std::vector<int32_t> tables(slots.size() * max_blocks, -1);
    const int32_t width = s.num_heads() * s.head_dim;
    const int32_t q_stride = width + 8;
    std::vector<float> q(size_t(num_rows) * q_stride, std::nanf(""));
    int32_t next = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const AttentionSequence& of = *sequences[i];
      for (int32_t r = 0; r < of.num_rows; ++r) {
        std::copy_n(&of.q[size_t(r) * width], width, &q[size_t(batch[i].row_begin + r) * q_stride]);
      }
      // What has left every window is in no block.
      const int32_t oldest = s.window > 0 ? std::max(0, of.position_begin - s.window + 1) : 0;
      for (int32_t b = oldest / s.block_size; b * s.block_size < of.num_positions(); ++b) {
        const int32_t block = tables[slots[i] * max_blocks + b] = blocks[next++];
        for (int32_t p = b * s.block_size; p < (b + 1) * s.block_size; ++p) {
          if (p < oldest || p >= of.num_positions()) continue;
          for (int32_t h = 0; h < s.num_kv_heads; ++h) {
            cache.Put(block, p % s.block_size, h, of, p);
          }
        }
      }
    }

    AttentionPlanOptions options;
    options.num_kv_heads = s.num_kv_heads;
    options.group = s.group;
    options.window = s.window;
    options.num_ctas = s.num_ctas;
    options.widest_tile = s.widest_tile;
    options.chunk = s.chunk;
    AttentionPlan plan;
    PlanAttention(options, batch, plan);
    was_split_ = !plan.merges.empty();

    DeviceRows dq(s.element, q);
    const std::vector<float> untouched(size_t(num_rows) * width, 123.0f);
    DeviceRows y(s.element, untouched);
    DeviceArray<uint8_t> data(cache.raw);
    DeviceArray<int32_t> dtables(tables), cta_begin(plan.cta_begin);
    DeviceArray<int32_t> num_merges(std::vector<int32_t>{static_cast<int32_t>(plan.merges.size())});
    DeviceArray<AttentionItem> items(plan.items);
    DeviceArray<AttentionMerge> merges(plan.merges);
    DeviceArray<float> dsinks(sinks), partials(size_t(plan.num_partials) * s.head_dim),
        partial_sums(plan.num_partials);
    AttentionArgs a;
    a.q = dq.data();
    a.q_stride = q_stride;
    a.y = y.data();
    a.y_stride = width;
    a.num_kv_heads = s.num_kv_heads;
    a.group = s.group;
    a.head_dim = s.head_dim;
    a.scale = s.scale();
    a.soft_cap = s.soft_cap;
    a.window = s.window;
    a.sinks = s.sinks ? dsinks.data() : nullptr;
    a.cache = cache.layout;
    a.cache.data = data.data();
    a.cache.tables = dtables.data();
    a.cache.max_blocks = max_blocks;
    a.cta_begin = cta_begin.data();
    a.items = items.data();
    a.merges = merges.data();
    a.num_merges = num_merges.data();
    a.num_ctas = s.num_ctas;
    a.merge_ctas = 2;
    a.widest_tile = plan.widest_tile;
    a.partials = partials.data();
    a.partial_sums = partial_sums.data();
    a.element = s.element;
    EXPECT_EQ(LaunchAttention(a, nullptr), cudaSuccess);
    EXPECT_EQ(LaunchAttentionMerge(a, nullptr), cudaSuccess);
    const std::vector<float> got = y.Values();
    EXPECT_EQ(DeviceFault(), "");
    std::vector<std::vector<float>> out;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto begin = got.begin() + int64_t{batch[i].row_begin} * width;
      EXPECT_EQ(std::count(begin - width, begin, 123.0f), width) << "a padded row was written";
      out.emplace_back(begin, begin + int64_t{batch[i].num_rows} * width);
    }
    return out;
  }
  /// Whether a merge was needed for the last batch.
  bool was_split() const { return was_split_; }

  /// In float64, one score after the other.
  static std::vector<double> Reference(const AttentionShape& s, const AttentionSequence& of,
                                       const std::vector<float>& sinks) {
    std::vector<double> out;
    for (int32_t r = 0; r < of.num_rows; ++r) {
      const int32_t last = of.position_begin + r;
      const int32_t first = s.window > 0 ? std::max(0, last - s.window + 1) : 0;
      for (int32_t h = 0; h < s.num_heads(); ++h) {
        const float* q = &of.q[(size_t(r) * s.num_heads() + h) * s.head_dim];
        std::vector<double> o(s.head_dim);
        std::vector<double> scores;
        double most = s.sinks ? sinks[h] : -1e300;
        for (int32_t p = first; p <= last; ++p) {
          const size_t head = size_t(p) * s.num_kv_heads + h / s.group;
          double dot = 0;
          for (int32_t i = 0; i < s.head_dim; ++i) {
            dot += double{q[i]} * of.k[head * s.head_dim + i];
          }
          dot *= double{of.k_scale[head]} * s.scale();
          if (s.soft_cap != 0) dot = s.soft_cap * std::tanh(dot / s.soft_cap);
          scores.push_back(dot);
          most = std::max(most, dot);
        }
        double sum = s.sinks ? std::exp(sinks[h] - most) : 0;
        for (int32_t p = first; p <= last; ++p) {
          const size_t head = size_t(p) * s.num_kv_heads + h / s.group;
          const double e = std::exp(scores[p - first] - most);
          sum += e;
          for (int32_t i = 0; i < s.head_dim; ++i) {
            o[i] += e * of.v_scale[head] * of.v[head * s.head_dim + i];
          }
        }
        for (const double x : o) out.push_back(x / sum);
      }
    }
    return out;
  }

  /// Every vector by itself: none hides behind larger ones.
  static void ExpectClose(const AttentionShape& s, const std::vector<float>& got,
                          const std::vector<double>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    const bool is_fine = s.element == Element::kFloat16 && s.cache != Element::kInt8;
    for (size_t begin = 0; begin < got.size(); begin += s.head_dim) {
      double error = 0, norm = 0;
      for (size_t i = begin; i < begin + s.head_dim; ++i) {
        error += std::pow(got[i] - expected[i], 2);
        norm += std::pow(expected[i], 2);
      }
      ASSERT_LE(std::sqrt(error), (is_fine ? 1.5e-3 : 1e-2) * std::sqrt(norm))
          << "row " << begin / s.head_dim / s.num_heads() << " head "
          << begin / s.head_dim % s.num_heads();
    }
  }

  /// Random sequences of so many rows, each from the position beside it on.
  void Run(const AttentionShape& s, const std::vector<std::pair<int32_t, int32_t>>& rows_at) {
    SCOPED_TRACE(testing::PrintToString(s));
    std::vector<AttentionSequence> sequences;
    for (const auto& [rows, position] : rows_at) {
      sequences.push_back(RandomSequence(s, rows, position));
    }
    std::vector<const AttentionSequence*> batch;
    for (const AttentionSequence& of : sequences) batch.push_back(&of);
    const std::vector<float> sinks = RandomSinks(s);
    const auto got = Attend(s, batch, sinks);
    for (size_t i = 0; i < sequences.size(); ++i) {
      SCOPED_TRACE(testing::Message() << sequences[i].num_rows << " rows from position "
                                      << sequences[i].position_begin);
      ExpectClose(s, got[i], Reference(s, sequences[i], sinks));
    }
  }

 private:
  bool was_split_ = false;
};

}  // namespace penstock::PENSTOCK_KERNELS
