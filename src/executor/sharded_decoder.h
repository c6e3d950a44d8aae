// A decoder whose layers several ranks share: to the runner one network, behind it a thread, a
// device, a part of the weights and of the KV cache for each rank. docs/tensor-parallel.md says who
// computes what.
// Owns the ranks' caches, activations and threads; borrows the model. Must not know sequences,
// sampling or plans.
// Threads: called by the runner's thread, which waits for the ranks' own.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/collective.h"
#include "executor/kv_cache.h"
#include "executor/load_model.h"
#include "executor/shard_loop.h"
#include "executor/slot_table.h"
#include "model/decoder.h"

namespace penstock {

struct ShardedOptions {
  DType dtype = DType::kFloat32;  // of activations
  int32_t max_rows = 0;
  KvCacheOptions cache;  // of all ranks together
  absl::Duration patience = absl::Seconds(4);
  std::function<void(int32_t rank)> before_pass;  // on each rank's thread; for tests; may be empty
};

class ShardedDecoder final : public Network {
 public:
  /// Over model->ranks.
  static absl::StatusOr<std::unique_ptr<ShardedDecoder>> Make(LoadedModel* model,
                                                              const ShardedOptions& options);
  ~ShardedDecoder() override;

  /// What a block takes on all ranks together.
  std::vector<CacheGroup> groups() const;
  /// Before the first Forward; `slots` outlives this.
  void UseSlots(const SlotTable& slots);

  void Forward(const BatchRows& batch, absl::Span<const LayerCache> cache,
               absl::Span<const AdaptedRows> adapted) override;
  const Tensor& hidden() const override { return ranks_[0].decoder->hidden(); }
  void FinalNorm(const Tensor& x, const Tensor& y) override;
  void Logits(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& logits) override;
  absl::Status status() const override { return collective_->status(); }
  bool abandoned() const override { return !stalled_.empty(); }

 private:
  struct Rank {
    std::unique_ptr<KvCache> cache;
    std::unique_ptr<Decoder> decoder;
    std::vector<LayerCache> layers;
  };

  ShardedDecoder(LoadedModel* model, ShardedOptions options);
  void RunAll(const ShardLoop::Work& work);

  LoadedModel* model_;
  ShardedOptions options_;
  std::unique_ptr<Collective> collective_;
  std::shared_ptr<ShardProgress> progress_;
  std::vector<Rank> ranks_;
  // What the ranks work on: one that does not come back still reads it.
  BatchRows batch_;
  Tensor head_in_, head_out_;
  std::vector<int32_t> stalled_;
  std::vector<std::unique_ptr<ShardLoop>> loops_;  // end before what they work on
};

}  // namespace penstock
