#include "executor/kv_cache.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/model_shard.h"

namespace penstock {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int32_t kSnapshotsPerSequence = 2;

/// Beside each vector of the cache.
int64_t ScaleBytes(DType dtype) {
  return dtype == DType::kInt8 ? static_cast<int64_t>(sizeof(float)) : 0;
}

/// Of one position in one layer.
int64_t LayerBytesPerToken(const ModelConfig& config, const LayerConfig& layer, DType dtype) {
  const int64_t vectors = config.has_latent_attention() ? 1 : 2 * layer.heads.num_kv_heads;
  const auto codes = layer.heads.head_dim * static_cast<int64_t>(DTypeSize(dtype));
  return vectors * (codes + ScaleBytes(dtype));
}

/// Blocks that one sequence of max_len holds at most.
int64_t BlocksOfOneSequence(const CacheGroup& group, const KvCacheOptions& o) {
  if (group.retention == CacheRetention::kRecurrent) return kSnapshotsPerSequence;
  int64_t positions = o.max_len;
  if (group.retention == CacheRetention::kWindow) {
    // The window before a step, the step's own positions, and a block that is cut by each end.
    positions =
        std::min<int64_t>(positions, int64_t{group.window} + o.max_step_tokens + 2 * o.block_size);
  }
  return CeilDiv(positions, o.block_size);
}

}  // namespace

int64_t CacheBytesPerToken(const ModelConfig& config, DType dtype) {
  int64_t bytes = 0;
  for (const LayerConfig& layer : config.layers) {
    if (!layer.recurrent) bytes += LayerBytesPerToken(config, layer, dtype);
  }
  return bytes;
}

int64_t CacheBytesPerToken(const ModelConfig& config, DType dtype, int32_t ranks) {
  if (ranks <= 1) return CacheBytesPerToken(config, dtype);
  return ranks * CacheBytesPerToken(ShardOf(config, {0, ranks}), dtype);
}

int64_t StateBytes(const ModelConfig& config) {
  int64_t layers = 0;
  for (const LayerConfig& layer : config.layers) layers += layer.recurrent ? 1 : 0;
  return layers * config.delta.state_floats() * static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<KvCache> KvCache::Make(const ModelConfig& config, const KvCacheOptions& options,
                                      Device& device) {
  if (options.block_size <= 0 || options.block_size % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("block_size is ", options.block_size, ", expected a multiple of 16"));
  }
  KvCache cache;
  cache.options_ = options;
  if (config.encoder.present) return cache;
  for (const LayerConfig& layer : config.layers) {
    const CacheRetention retention = layer.recurrent    ? CacheRetention::kRecurrent
                                     : layer.window > 0 ? CacheRetention::kWindow
                                                        : CacheRetention::kFull;
    auto it = std::find_if(cache.groups_.begin(), cache.groups_.end(), [&](const CacheGroup& g) {
      return g.window == layer.window && g.retention == retention;
    });
    if (it == cache.groups_.end()) {
      if (cache.groups_.size() == kMaxCacheGroups) {
        return absl::UnimplementedError(absl::StrCat("the model has more than ", kMaxCacheGroups,
                                                     " different attention windows"));
      }
      CacheGroup group;
      group.retention = retention;
      group.window = layer.window;
      it = cache.groups_.insert(cache.groups_.end(), group);
    }
    const auto g = static_cast<int32_t>(it - cache.groups_.begin());
    const int64_t bytes =
        layer.recurrent ? config.delta.state_floats() * static_cast<int64_t>(sizeof(float))
                        : options.block_size * LayerBytesPerToken(config, layer, options.dtype);
    cache.layers_.push_back(
        {layer.heads, config.has_latent_attention(), g, it->block_bytes, bytes});
    it->block_bytes += bytes;
    if (layer.recurrent) cache.state_group_ = g;
  }
  cache.state_bytes_ = StateBytes(config);
  const int64_t slot_bytes = cache.state_bytes_ * options.num_slots;
  const int64_t budget = options.budget_bytes - slot_bytes;
  int64_t one_sequence = 0;
  for (const CacheGroup& group : cache.groups_) {
    one_sequence += BlocksOfOneSequence(group, options) * group.block_bytes;
  }
  if (budget < one_sequence) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "kv_memory is ", options.budget_bytes, " bytes, one sequence of max_len ", options.max_len,
        " needs ", one_sequence + slot_bytes, "; raise kv_memory or lower max_len"));
  }
  for (CacheGroup& group : cache.groups_) {
    const double share = static_cast<double>(budget) / static_cast<double>(one_sequence);
    const double blocks = share * static_cast<double>(BlocksOfOneSequence(group, options));
    group.num_blocks =
        static_cast<int32_t>(std::min(blocks, 1e9));  // rounded down: never above the budget
    ASSIGN_OR_RETURN(DeviceBuffer buffer, device.Allocate(group.num_blocks * group.block_bytes));
    cache.storage_.push_back(std::move(buffer));
  }
  ASSIGN_OR_RETURN(cache.slot_states_, device.Allocate(slot_bytes));
  return cache;
}

float* KvCache::states(size_t layer) const {
  return reinterpret_cast<float*>(static_cast<std::byte*>(slot_states_.data()) +
                                  layers_[layer].offset);
}

void KvCache::LoadState(SlotId slot, BlockId snapshot, Device& device) const {
  auto* to = static_cast<std::byte*>(slot_states_.data()) + slot.value * state_bytes_;
  const auto* from = static_cast<const std::byte*>(storage_[state_group_].data());
  device.CopyOnDevice(to, snapshot == kNoBlock ? nullptr : from + snapshot * state_bytes_,
                      state_bytes_);
}

void KvCache::StoreState(SlotId slot, BlockId snapshot, Device& device) const {
  auto* to = static_cast<std::byte*>(storage_[state_group_].data()) + snapshot * state_bytes_;
  const auto* from = static_cast<const std::byte*>(slot_states_.data()) + slot.value * state_bytes_;
  device.CopyOnDevice(to, from, state_bytes_);
}

std::byte* KvCache::BlockOf(const LayerPlace& place, BlockId block) const {
  return static_cast<std::byte*>(storage_[place.group].data()) +
         place.offset * groups_[place.group].num_blocks + block * place.bytes;
}

void KvCache::ExportBlock(int32_t group, BlockId block, void* record, Device& device) const {
  for (const LayerPlace& place : layers_) {
    if (place.group != group) continue;
    device.CopyOnDevice(static_cast<std::byte*>(record) + place.offset, BlockOf(place, block),
                        place.bytes);
  }
}

void KvCache::ImportBlock(int32_t group, BlockId block, const void* record, Device& device) const {
  for (const LayerPlace& place : layers_) {
    if (place.group != group) continue;
    device.CopyOnDevice(BlockOf(place, block), static_cast<const std::byte*>(record) + place.offset,
                        place.bytes);
  }
}

KvLayer KvCache::layer(size_t layer, const BlockId* tables, int32_t max_blocks) const {
  const LayerPlace& place = layers_[layer];
  KvLayer view;
  view.dtype = options_.dtype;
  view.block_size = options_.block_size;
  const int64_t elements = int64_t{options_.block_size} * place.heads.head_dim;
  const int64_t scale_bytes = options_.block_size * ScaleBytes(options_.dtype);
  view.scales_at = scale_bytes == 0 ? 0 : elements;
  view.head_stride = elements + scale_bytes;
  view.kv_stride = place.latent ? 0 : place.heads.num_kv_heads * view.head_stride;
  view.block_stride = place.latent ? view.head_stride : 2 * view.kv_stride;
  view.data = BlockOf(place, 0);
  view.tables = tables;
  view.max_blocks = max_blocks;
  return view;
}

}  // namespace penstock
