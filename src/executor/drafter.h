// What guesses tokens for the model that answers, over keys and values of its own. Guesses are drawn
// as answers are, with the noise of their position, and wrong ones cost time only; so what its cache
// lacks is made up for when it is wanted, and never waited for.
// Owns its cache and activations; borrows the model and the slots. Must not know plans.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "executor/head_rows.h"
#include "executor/kv_cache.h"
#include "executor/load_model.h"
#include "executor/slot_table.h"
#include "model/network.h"

namespace penstock {

struct DrafterOptions {
  DType dtype = DType::kFloat32;
  KvCacheOptions cache;
  int32_t vocab_size = 0;  // of the model that answers
  int32_t max_drafts = 0;  // of one slice
};

/// What one slot wants of a step.
struct DraftRequest {
  SlotId slot;
  int32_t position = 0;    // of an input; the slot knows the tokens up to it
  int32_t num_drafts = 0;  // after that input, which is the newest then; 0: only keeps up
  std::vector<TokenId> drafts;
};

/// Rows of a pass in the making.
struct DraftPass {
  std::vector<int32_t> ids, positions, slots;
  std::vector<SequenceRows> sequences;

  int32_t num_rows() const { return static_cast<int32_t>(ids.size()); }
  void Clear();
  /// The row of `position`, behind those of the same slot.
  void Add(SlotId slot, int32_t position, TokenId token);
  BatchRows batch() const;
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Of its keys and values.
  CacheGroup group() const;
  /// `group` is the index of its group in `slots`, which outlives this.
  void UseSlots(SlotTable* slots, int32_t group);
  /// A slot's table has got blocks from index `first` on, for a slice that starts at `begin`: those
  /// wholly before it hold what another has computed, as far as it has.
  void NoteBlocks(SlotId slot, int32_t first, int32_t begin);
  /// Guesses what the requests ask for, before the model computes their positions.
  virtual absl::Status Run(absl::Span<DraftRequest> requests) = 0;
  /// The model has computed `rows`, of which its hidden() has the outputs.
  virtual absl::Status Follow(Network& model, absl::Span<const SequenceRows> rows);

 protected:
  Drafter(LoadedModel* model, const DrafterOptions& options) : model_(model), options_(options) {}
  absl::Status MakeCache(const ModelConfig& config);
  /// A position of a slot is computed from what is known.
  void NoteFilled(SlotId slot, int32_t position);
  /// A guess more for each of `requests`; rows[i] of the network's pass is its newest input.
  absl::Status Draw(const HeadWork& work, int32_t vocab_size,
                    absl::Span<DraftRequest* const> requests, absl::Span<const int32_t> rows);
  /// Those that still want a guess.
  static void DropDone(std::vector<DraftRequest*>& requests);
  /// What was asked for and not guessed is the last token.
  void FillUp(absl::Span<DraftRequest> requests);

  LoadedModel* model_ = nullptr;  // whose device computes the guesses
  DrafterOptions options_;
  std::unique_ptr<KvCache> cache_;
  std::vector<LayerCache> layers_;
  SlotTable* slots_ = nullptr;
  DeviceBuffer gathered_;  // [rows, hidden] after the final norm; grown on demand

 private:
  BlockId BlockOf(SlotId slot, int32_t index) const;

  size_t num_layers_ = 0;
  int32_t group_ = 0;
  std::vector<int32_t> filled_;  // by block: positions from its start that are computed
  DeviceBuffer logits_;          // grown on demand
};

}  // namespace penstock
