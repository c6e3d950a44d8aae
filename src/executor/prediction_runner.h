// A prediction head of the model's own as what guesses. Its row of position p is made of the model's
// hidden state there and of the token after it, so it cannot compute anew what it has missed: rows
// of a prompt go through it in the step that computes them, and those whose next token is to be
// drawn are kept until it is known. Where a state is lost (the end of a prefix that was found) zeros
// stand for it, which makes guesses worse and nothing else. Further guesses of a step read the
// head's own output in the place of the model's.
// Owns the network's activations and the states that are kept. Must not know plans.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>
#include <vector>

#include "executor/drafter.h"
#include "model/decoder.h"
#include "model/prediction_head.h"

namespace penstock {

class PredictionRunner final : public Drafter {
 public:
  /// With the head of `model`, which has one.
  static absl::StatusOr<std::unique_ptr<PredictionRunner>> Make(LoadedModel* model,
                                                                const DrafterOptions& options);
  /// What it has beside a decoder's activations of the head's config, from the start.
  static int64_t ActivationBytes(const ModelConfig& config, const DrafterOptions& options);

  /// A request that wants no guesses costs nothing.
  absl::Status Run(absl::Span<DraftRequest> requests) override;
  absl::Status Follow(Network& model, absl::Span<const SequenceRows> rows) override;

 private:
  /// Hidden states of a slot whose next tokens were not known.
  struct Kept {
    SequenceId sequence;
    int32_t begin = 0;          // position of the first
    std::vector<int32_t> rows;  // of states_
    int32_t end() const { return begin + static_cast<int32_t>(rows.size()); }
  };

  PredictionRunner(LoadedModel* model, const DrafterOptions& options) : Drafter(model, options) {}
  static int32_t MostKept(const DrafterOptions& options);
  /// What is kept of a slot, nothing of another sequence.
  Kept& KeptOf(SlotId id);
  /// Adds the row of a position whose next token is known; `state` is a row of what Forward gets.
  void AddKnown(SlotId id, int32_t position, int32_t state);
  /// Adds positions [draft_end, end) with the states that are kept, as far as the pass has room.
  void AddKept(SlotId id, int32_t end);
  /// The pass through the head, its states rows of `states` [n, hidden]: of `model` before its final
  /// norm, or, where that is null, after one.
  void Forward(const Tensor& states, Network* model);
  absl::Status Guess(std::vector<DraftRequest*> guessing);
  /// Computes what is known of these slots before their rows.
  void CatchUp(absl::Span<const SequenceRows> rows);
  /// Rows whose next token is known go through the head, of the rest the states are kept.
  void ForwardKnown(Network& model, absl::Span<const SequenceRows> rows);
  void Keep(Network& model, absl::Span<const SequenceRows> rows);
  /// Makes room for `count` states: slots of `rows` catch up, and what others keep moves together.
  void MakeRoom(absl::Span<const SequenceRows> rows, int32_t count);
  /// Of a slot's rows, the first that many have a known token behind them.
  int32_t NumKnown(const SequenceRows& rows) const;
  HeadWork Head();
  Tensor States() const;

  PredictionHead* head_ = nullptr;
  std::unique_ptr<Decoder> network_;
  DraftPass pass_;
  std::vector<int32_t> pass_states_;  // by row of the pass
  DeviceBuffer narrow_, wide_;        // [max_step_tokens, hidden] and [.., 2 hidden]
  DeviceBuffer states_, other_;       // [capacity_ + 1, hidden]; the last row is zero
  int32_t capacity_ = 0;
  int32_t num_states_ = 0;  // rows of states_ that are taken
  std::vector<Kept> kept_;  // by slot
};

}  // namespace penstock
