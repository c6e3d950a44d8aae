#include <algorithm>
#include <numeric>

#include "backend/cpu/cpu_ops.h"

namespace penstock {
namespace {

constexpr int32_t kRowsPerTile = 32;

}  // namespace

void CpuOps::Encode(const EncodeArgs& a, const BatchRows& batch) {
  // Keys and values as a cache would hold them, in blocks of one sequence after the other.
  const int64_t dim = a.heads.head_dim;
  const int64_t kv_heads = a.heads.num_kv_heads;
  const int64_t head_floats = kCacheUnit * dim;
  const int64_t block_floats = 2 * kv_heads * head_floats;
  const auto blocks_of = [](const SequenceRows& s) {
    return (s.num_rows + kCacheUnit - 1) / kCacheUnit;
  };
  std::vector<int32_t> first_block;
  int32_t num_blocks = 0;
  for (const SequenceRows& s : batch.sequences) {
    first_block.push_back(num_blocks);
    num_blocks += blocks_of(s);
  }
  if (static_cast<int64_t>(encode_kv_.size()) < num_blocks * block_floats)
    encode_kv_.resize(num_blocks * block_floats);
  std::vector<BlockId> table(num_blocks);
  std::iota(table.begin(), table.end(), 0);
  const auto element = static_cast<int64_t>(DTypeSize(a.qkv.dtype));
  struct Piece {
    size_t sequence;
    int32_t begin;
    int32_t count;
  };
  std::vector<Piece> pieces;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceRows& s = batch.sequences[i];
    ForRows(s.num_rows, 2 * kv_heads * dim, [&](int64_t r) {
      RopeRowArgs row;
      row.bf16 = a.qkv.dtype == DType::kBFloat16;
      row.qkv = a.qkv.row(s.row_begin + r);
      row.heads = a.heads;
      float* keys = &encode_kv_[(first_block[i] + r / kCacheUnit) * block_floats];
      row.k_out = keys + KeyOffset(r % kCacheUnit, dim, false);
      row.v_out = keys + kv_heads * head_floats + r % kCacheUnit * dim;
      row.head_stride = head_floats;
      kernels_.rope_row(row);
    });
    for (int32_t begin = 0; begin < s.num_rows; begin += kRowsPerTile)
      pieces.push_back({i, begin, std::min(kRowsPerTile, s.num_rows - begin)});
  }
  const int32_t group = a.heads.num_heads / a.heads.num_kv_heads;
  pool_->ParallelFor(static_cast<int64_t>(pieces.size()) * kv_heads, [&](int64_t tile) {
    const Piece& piece = pieces[tile / kv_heads];
    const SequenceRows& s = batch.sequences[piece.sequence];
    const int64_t head = tile % kv_heads;
    AttentionTileArgs t;
    t.bf16 = a.qkv.dtype == DType::kBFloat16;
    t.q = a.qkv.row(s.row_begin + piece.begin) + head * group * dim * element;
    t.q_stride = a.qkv.stride;
    t.y = a.y.row(s.row_begin + piece.begin) + head * group * dim * element;
    t.y_stride = a.y.stride;
    t.num_rows = piece.count;
    t.group = group;
    t.head_dim = static_cast<int32_t>(dim);
    t.position_begin = piece.begin;
    t.cache = &encode_kv_[head * head_floats];
    t.block_stride = block_floats;
    t.kv_stride = kv_heads * head_floats;
    t.table = table.data() + first_block[piece.sequence];
    t.scale = a.scale;
    t.visible = s.num_rows;
    t.scratch = CpuThreadScratch(AttentionScratch(piece.count, group, dim));
    kernels_.attention_tile(t);
  });
}

}  // namespace penstock
