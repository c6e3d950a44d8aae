// A draft model beside the one that answers: guesses what comes next, a pass for each guess, over
// keys and values of its own. Guesses are drawn as answers are, with the noise of their position, and
// wrong ones cost time only; so what its cache lacks (of a prefix found, of a time without guesses)
// is computed when it is wanted, and never waited for.
// Owns its cache and activations; borrows the model and the slots. Must not know plans.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "executor/kv_cache.h"
#include "executor/load_model.h"
#include "executor/slot_table.h"
#include "model/network.h"

namespace penstock {

struct DraftRunnerOptions {
  DType dtype = DType::kFloat32;
  KvCacheOptions cache;
  int32_t vocab_size = 0;  // of the model that answers
};

/// What one slot wants of a step.
struct DraftRequest {
  SlotId slot;
  int32_t position = 0;    // of an input; the slot knows the tokens up to it
  int32_t num_drafts = 0;  // after that input, which is the newest then; 0: only keeps up
  std::vector<TokenId> drafts;
};

class DraftRunner {
 public:
  /// INVALID_ARGUMENT where the model cannot draft for that one: another vocabulary, fewer
  /// positions, an encoder, layers with windows or states.
  static absl::StatusOr<std::unique_ptr<DraftRunner>> Make(LoadedModel* model,
                                                           const DraftRunnerOptions& options);
  /// Of its keys and values.
  CacheGroup group() const;
  /// `group` is the index of its group in `slots`, which outlives this.
  void UseSlots(SlotTable* slots, int32_t group);
  /// A slot's table has got blocks from index `first` on, for a slice that starts at `begin`: those
  /// wholly before it hold what another has computed, as far as it has.
  void NoteBlocks(SlotId slot, int32_t first, int32_t begin);
  /// Computes what the slots know and the cache lacks, in order and as far as a step has room, then
  /// guesses. A slot that did not catch up gets guesses that are not worth much.
  absl::Status Run(absl::Span<DraftRequest> requests);

 private:
  DraftRunner() = default;
  /// Adds positions [draft_end, end) of a slot to the batch. What was computed of guesses counts as
  /// filled once a known position behind them is.
  void AddRows(SlotId slot, int32_t end, bool known);
  void Forward();
  /// A guess more for each of `requests`; rows[i] of the pass is its newest input.
  absl::Status Draw(absl::Span<DraftRequest* const> requests, absl::Span<const int32_t> rows);
  BlockId BlockOf(SlotId slot, int32_t index) const;

  LoadedModel* model_ = nullptr;
  DraftRunnerOptions options_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Network> network_;
  std::vector<LayerCache> layers_;
  SlotTable* slots_ = nullptr;
  int32_t group_ = 0;
  std::vector<int32_t> filled_;  // by block: positions from its start that are computed

  // The pass in progress.
  std::vector<int32_t> ids_, positions_, row_slots_;
  std::vector<SequenceRows> sequences_;
  DeviceBuffer gathered_, logits_;  // grown on demand
};

}  // namespace penstock
