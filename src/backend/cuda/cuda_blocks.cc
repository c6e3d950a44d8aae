// What layers other than decoders' attention need of the device: attention of encoders, which see
// their whole sequence, and the gated delta rule.
#include <algorithm>
#include <numeric>

#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/cuda_types.h"
#include "kernels/delta_launch.h"

namespace penstock::PENSTOCK_KERNELS {

void CudaOps::Encode(const EncodeArgs& a, const BatchRows& batch) {
  if (a.qkv.dtype != numbers_) return NoKernel("Encode of numbers of other types than weights");
  // Keys and values as a cache would hold them for the length of this layer, a table for each
  // sequence, whose slot is its place in the batch.
  constexpr int32_t kBlock = kCacheUnit;
  int32_t longest = 0;
  for (const SequenceRows& s : batch.sequences) longest = std::max(longest, s.num_rows);
  const auto num_sequences = static_cast<int32_t>(batch.sequences.size());
  KvLayer cache;
  cache.dtype = numbers_;
  cache.block_size = kBlock;
  cache.max_blocks = (longest + kBlock - 1) / kBlock;
  cache.head_stride = int64_t{kBlock} * a.heads.head_dim;
  cache.kv_stride = a.heads.num_kv_heads * cache.head_stride;
  cache.block_stride = 2 * cache.kv_stride;
  // A table has room for the longest; blocks are those that there are rows for.
  encode_table_.assign(int64_t{num_sequences} * cache.max_blocks, kNoBlock);
  BlockId num_blocks = 0;
  for (int32_t i = 0; i < num_sequences; ++i) {
    const int32_t own_blocks = (batch.sequences[i].num_rows + kBlock - 1) / kBlock;
    for (int32_t b = 0; b < own_blocks; ++b)
      encode_table_[int64_t{i} * cache.max_blocks + b] = num_blocks++;
  }
  cache.tables = encode_table_.data();
  cache.data = encode_cache_.Of<uint16_t>(stream_, num_blocks * cache.block_stride);
  std::vector<SequenceRows> sequences(batch.sequences.begin(), batch.sequences.end());
  std::vector<int32_t> positions(batch.num_rows);
  for (int32_t i = 0; i < num_sequences; ++i) {
    SequenceRows& s = sequences[i];
    s.slot = i;
    s.position_begin = 0;
    std::iota(positions.begin() + s.row_begin, positions.begin() + s.row_begin + s.num_rows, 0);
  }
  BatchRows own = batch;
  own.positions = positions.data();
  own.rope_rows = nullptr;
  own.sequences = sequences;
  penstock::RopeArgs keep;
  keep.qkv = a.qkv;
  keep.heads = a.heads;
  keep.cache = cache;
  RopeAndCache(keep, own);
  penstock::AttentionArgs attend;
  attend.q = ColumnsFrom(a.qkv, 0, int64_t{a.heads.num_heads} * a.heads.head_dim);
  attend.heads = a.heads;
  attend.cache = cache;
  attend.scale = a.scale;
  attend.y = a.y;
  Attend(attend, own, true);
}

void CudaOps::DeltaRule(const DeltaArgs& a, const BatchRows& batch) {
  std::vector<DeltaSequence> sequences;
  std::vector<int32_t> sequence_of(batch.num_rows);
  for (const SequenceRows& s : batch.sequences) {
    std::fill_n(sequence_of.begin() + s.row_begin, s.num_rows,
                static_cast<int32_t>(sequences.size()));
    sequences.push_back({s.slot, s.row_begin, s.num_rows});
  }
  DeltaRuleArgs d;
  d.qkv = a.qkv.data;
  d.qkv_stride = a.qkv.stride;
  d.ba = static_cast<const float*>(a.ba.data);
  d.ba_stride = a.ba.stride;
  d.conv = a.conv;
  d.decay = a.decay;
  d.dt_bias = a.dt_bias;
  d.states = a.states;
  d.state_stride = a.state_stride;
  d.sequences = delta_sequences_.Send(staging_, sequences);
  d.sequence_of = delta_rows_.Send(staging_, sequence_of);
  d.convolved = convolved_.Of<float>(stream_, batch.num_rows * a.shape.channels());
  d.y = a.y.data;
  d.y_stride = a.y.stride;
  d.rows = batch.num_rows;
  d.num_sequences = static_cast<int32_t>(sequences.size());
  d.num_key_heads = a.shape.num_key_heads;
  d.num_value_heads = a.shape.num_value_heads;
  d.key_dim = a.shape.key_dim;
  d.value_dim = a.shape.value_dim;
  d.conv_width = a.shape.conv_width;
  d.element = ElementOf(a.qkv.dtype);
  stream_.Enqueue("delta rule", [&](cudaStream_t stream) { return LaunchDeltaRule(d, stream); });
}

}  // namespace penstock::PENSTOCK_KERNELS
