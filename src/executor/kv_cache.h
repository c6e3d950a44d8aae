// Storage of the paged KV cache, one region per cache group, and how a budget becomes blocks.
// Owns device memory. Must not know who holds which block.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/model_config.h"
#include "penstock/backend.h"
#include "penstock/executor.h"

namespace penstock {

struct KvCacheOptions {
  DType dtype = DType::kFloat32;
  int64_t budget_bytes = 0;
  int32_t block_size = 16;  // a multiple of 16
  int32_t max_len = 0;      // positions of one sequence
  int32_t max_step_tokens = 0;
  int32_t num_slots = 0;  // recurrent layers keep a state for each
};

/// What one position takes in all layers that cache positions.
int64_t CacheBytesPerToken(const ModelConfig& config, DType dtype);
/// The same of a model whose layers `ranks` share.
int64_t CacheBytesPerToken(const ModelConfig& config, DType dtype, int32_t ranks);
/// One state of all recurrent layers.
int64_t StateBytes(const ModelConfig& config);

class KvCache {
 public:
  /// RESOURCE_EXHAUSTED, with the bytes needed, where not even one sequence of max_len fits the
  /// budget.
  static absl::StatusOr<KvCache> Make(const ModelConfig& config, const KvCacheOptions& options,
                                      Device& device);

  const std::vector<CacheGroup>& groups() const { return groups_; }
  /// Which group a layer belongs to.
  int32_t group_of(size_t layer) const { return layers_[layer].group; }
  /// A layer's view; `tables` is [num_slots, max_blocks] of its group.
  KvLayer layer(size_t layer, const BlockId* tables, int32_t max_blocks) const;
  /// A recurrent layer's state of slot 0; slots are StateBytes apart.
  float* states(size_t layer) const;
  bool has_states() const { return state_bytes_ > 0; }
  /// The whole state of a slot := a snapshot, or zeros where that is kNoBlock; and back.
  void LoadState(SlotId slot, BlockId snapshot, Device& device) const;
  void StoreState(SlotId slot, BlockId snapshot, Device& device) const;
  /// A block of all layers of a group, each layer's keys, values and scales as they lie, one layer
  /// after the other: block_bytes at `record`, which the device can reach; and back.
  void ExportBlock(int32_t group, BlockId block, void* record, Device& device) const;
  void ImportBlock(int32_t group, BlockId block, const void* record, Device& device) const;

 private:
  struct LayerPlace {
    HeadShape heads;
    bool latent = false;  // keys are values: one vector a position
    int32_t group = 0;
    int64_t offset = 0;  // bytes of a block of the group's layers before it
    int64_t bytes = 0;   // of a block
  };
  std::byte* BlockOf(const LayerPlace& place, BlockId block) const;

  KvCacheOptions options_;
  std::vector<CacheGroup> groups_;
  std::vector<LayerPlace> layers_;
  int64_t state_bytes_ = 0;            // of one state; 0: no recurrent layers
  int32_t state_group_ = -1;           // whose blocks are snapshots
  DeviceBuffer slot_states_;           // float32 [num_slots][layer][state]
  std::vector<DeviceBuffer> storage_;  // per group: [layer][block] as KvLayer has it
};

}  // namespace penstock
