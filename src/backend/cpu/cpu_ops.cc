#include "backend/cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/sample.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int64_t kTileVectors = 64;  // (row, head) pairs in one tile of attention

}  // namespace

void CpuOps::Norm(const NormArgs& a) {
  NormRowArgs common;
  common.bf16 = CpuIsBf16(a.x.dtype);
  common.weight = a.weight;
  common.bias = a.bias;
  common.eps = a.eps;
  common.center = a.center;
  common.accumulate = a.accumulate;
  common.scale = a.scale;
  common.n = a.x.cols;
  ForRows(a.x.rows, a.x.cols, [&](int64_t r) {
    NormRowArgs row = common;
    row.x = a.x.row(r);
    row.y = a.y.row(r);
    kernels_.norm_row(row);
  });
}

void CpuOps::RopeAndCache(const RopeArgs& a, const BatchRows& batch) {
  RopeRowArgs common;
  common.bf16 = CpuIsBf16(a.qkv.dtype);
  common.kv_type = a.cache.dtype;
  common.heads = a.heads;
  common.q_norm = a.q_norm;
  common.k_norm = a.k_norm;
  common.norm_eps = a.norm_eps;
  common.rotary_dim = a.rotary_dim;
  common.rotary_begin = a.rotary_begin;
  common.v_norm = a.v_norm;
  common.head_stride = a.cache.head_stride;
  const auto kv_bytes = static_cast<int64_t>(DTypeSize(a.cache.dtype));
  ForRows(batch.num_rows, 2 * a.qkv.cols, [&](int64_t r) {
    RopeRowArgs row = common;
    const int64_t position = batch.positions[r];
    row.qkv = a.qkv.row(r);
    const int64_t turn = batch.rope_rows == nullptr ? position : batch.rope_rows[r];
    row.cos_sin = a.cos_sin == nullptr ? nullptr : a.cos_sin + turn * a.rotary_dim;
    if (a.q_scale != nullptr) row.q_scale = a.q_scale[position];
    const int64_t size = a.cache.block_size;
    const BlockId block =
        a.cache.tables[int64_t{batch.slots[r]} * a.cache.max_blocks + position / size];
    const bool keys_alone = a.cache.kv_stride == 0;
    const int64_t within = position % size;
    char* keys = static_cast<char*>(a.cache.data) + block * a.cache.block_stride * kv_bytes;
    row.k_out = keys + KeyOffset(within, a.heads.head_dim, keys_alone) * kv_bytes;
    if (!keys_alone) row.v_out = keys + (a.cache.kv_stride + within * a.heads.head_dim) * kv_bytes;
    if (a.cache.scales_at > 0) {
      row.k_scale = reinterpret_cast<float*>(keys + a.cache.scales_at) + within;
      row.v_scale = reinterpret_cast<float*>(keys + a.cache.kv_stride + a.cache.scales_at) + within;
    }
    kernels_.rope_row(row);
  });
}

void CpuOps::Attention(const AttentionArgs& a, const BatchRows& batch) {
  const int32_t dim = a.heads.head_dim;
  const int32_t group = a.heads.num_heads / a.heads.num_kv_heads;
  const int64_t rows_per_tile = std::max<int64_t>(1, kTileVectors / group);
  struct Piece {
    const SequenceRows* sequence;
    int32_t begin;
    int32_t count;
  };
  std::vector<Piece> pieces;
  for (const SequenceRows& sequence : batch.sequences) {
    for (int64_t begin = 0; begin < sequence.num_rows; begin += rows_per_tile) {
      pieces.push_back(
          {&sequence, static_cast<int32_t>(begin),
           static_cast<int32_t>(std::min<int64_t>(rows_per_tile, sequence.num_rows - begin))});
    }
  }
  // The longest histories first: what is left at the end is small.
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& x, const Piece& y) {
    return x.sequence->position_begin + x.begin > y.sequence->position_begin + y.begin;
  });
  const auto element = static_cast<int64_t>(DTypeSize(a.q.dtype));
  const auto kv_bytes = static_cast<int64_t>(DTypeSize(a.cache.dtype));
  const bool bf16 = CpuIsBf16(a.q.dtype);
  const auto num_pieces = static_cast<int64_t>(pieces.size());
  pool_->ParallelFor(num_pieces * a.heads.num_kv_heads, [&](int64_t tile) {
    const Piece& piece = pieces[tile / a.heads.num_kv_heads];
    const int64_t kv_head = tile % a.heads.num_kv_heads;
    const int64_t row = piece.sequence->row_begin + piece.begin;
    AttentionTileArgs t;
    t.bf16 = bf16;
    t.kv_type = a.cache.dtype;
    t.bf16_products = choice_.bf16_products;
    t.q = a.q.row(row) + kv_head * group * dim * element;
    t.q_stride = a.q.stride;
    t.y = a.y.row(row) + kv_head * group * dim * element;
    t.y_stride = a.y.stride;
    t.num_rows = piece.count;
    t.group = group;
    t.head_dim = dim;
    t.position_begin = piece.sequence->position_begin + piece.begin;
    t.cache = static_cast<const char*>(a.cache.data) + kv_head * a.cache.head_stride * kv_bytes;
    t.block_stride = a.cache.block_stride;
    t.kv_stride = a.cache.kv_stride;
    t.scales_at = a.cache.scales_at;
    t.block_size = a.cache.block_size;
    t.table = a.cache.tables + int64_t{piece.sequence->slot} * a.cache.max_blocks;
    t.scale = a.scale;
    t.soft_cap = a.soft_cap;
    t.window = a.window;
    t.sinks = a.sinks == nullptr ? nullptr : a.sinks + kv_head * group;
    t.scratch = CpuThreadScratch(AttentionScratch(piece.count, group, dim));
    kernels_.attention_tile(t);
  });
}

void CpuOps::Activate(const ActivationArgs& a) {
  ActivationRowArgs common;
  common.bf16 = CpuIsBf16(a.gate.dtype);
  common.f = a.f;
  common.limit = a.limit;
  common.alpha = a.alpha;
  common.n = a.y.cols;
  ForRows(a.gate.rows, 4 * a.y.cols, [&](int64_t r) {
    ActivationRowArgs row = common;
    row.gate = a.gate.row(r);
    row.up = a.up.data == nullptr ? nullptr : a.up.row(r);
    row.y = a.y.row(r);
    kernels_.activation_row(row);
  });
}

void CpuOps::GatherRows(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& y) {
  const size_t bytes = x.cols * DTypeSize(x.dtype);
  for (size_t i = 0; i < rows.size(); ++i) std::memcpy(y.row(i), x.row(rows[i]), bytes);
}

void CpuOps::Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
                    absl::Span<SampledToken> tokens) {
  pool_->ParallelFor(static_cast<int64_t>(rows.size()), [&](int64_t i) {
    const auto* row = reinterpret_cast<const float*>(logits.row(rows[i].row));
    tokens[i] = SampleToken({row, static_cast<size_t>(logits.cols)}, rows[i]);
  });
}

void CpuOps::Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
                   absl::Span<SampledToken> tokens) {
  pool_->ParallelFor(static_cast<int64_t>(ids.size()), [&](int64_t i) {
    const auto* row = reinterpret_cast<const float*>(logits.row(i));
    tokens[i].id = ids[i];
    ScoreToken({row, static_cast<size_t>(logits.cols)}, num_top, {}, tokens[i]);
  });
}

}  // namespace penstock
