// A draft model beside the one that answers: a pass of it for each guess. What its cache lacks (of a
// prefix found, of a time without guesses) it computes when it is wanted, from the tokens alone.
// Owns the network's activations; borrows the model. Must not know plans.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>
#include <vector>

#include "executor/drafter.h"

namespace penstock {

class DraftRunner final : public Drafter {
 public:
  /// INVALID_ARGUMENT where the model cannot draft for that one: another vocabulary, fewer
  /// positions, an encoder, layers with windows or states.
  static absl::StatusOr<std::unique_ptr<DraftRunner>> Make(LoadedModel* model,
                                                           const DrafterOptions& options);
  /// Computes what the slots know and the cache lacks, in order and as far as a step has room, then
  /// guesses. A slot that did not catch up gets guesses that are not worth much.
  absl::Status Run(absl::Span<DraftRequest> requests) override;

 private:
  DraftRunner(LoadedModel* model, const DrafterOptions& options) : Drafter(model, options) {}
  /// Adds positions [draft_end, end) of a slot to the batch. What was computed of guesses counts as
  /// filled once a known position behind them is.
  void AddRows(SlotId slot, int32_t end, bool known);
  HeadWork Head();

  std::unique_ptr<Network> network_;
  DraftPass pass_;
};

}  // namespace penstock
