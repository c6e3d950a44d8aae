// One step on one device: plan -> arrays -> forward pass -> logits -> tokens.
// Owns the KV cache, the slots and the decoder's activations; borrows the model. Must not know
// queues or threads.
// Threads: confined to one rank's thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "executor/adapter_store.h"
#include "executor/block_tier.h"
#include "executor/drafter.h"
#include "executor/head_rows.h"
#include "executor/kv_cache.h"
#include "executor/load_model.h"
#include "executor/slot_table.h"
#include "executor/state_rewind.h"
#include "model/network.h"
#include "penstock/executor.h"

namespace penstock {

/// Rows of prompt log-probs whose logits exist at once.
inline constexpr int32_t kScoreRows = 256;

struct RunnerOptions {
  DType dtype = DType::kFloat32;     // activations: float32, bfloat16 or float16
  DType kv_dtype = DType::kFloat32;  // float32, int8, bfloat16 or float16
  int64_t kv_bytes = 0;
  int32_t block_size = 16;
  int32_t num_slots = 256;
  int32_t max_step_tokens = 512;
  int32_t max_len = 0;  // 0: the model's
  int32_t pipeline_depth = 1;
  BlockTierOptions tier;  // not with ranks, recurrent layers or a draft model: there is none
  const WorkerPool* pool = nullptr;  // depth 2: whose callers' CPU the rank's thread takes
  LoadedModel* draft = nullptr;      // guesses for the model; outlives the runner; null: its head
  DType draft_dtype = DType::kFloat32;     // of its activations
  int32_t max_drafts = 0;                  // of one slice; 0: no head guesses
  std::shared_ptr<AdapterStore> adapters;  // that slices may name; null: none are supported
  // An executor makes a first step of each kind, behind this, before it takes any; empty: it does
  // not.
  std::function<void()> before_warm_up;
  absl::Duration rank_patience = absl::Seconds(4);  // that ranks have with each other
  std::function<void(int32_t rank)> before_pass;  // on each rank's thread; for tests; may be empty
};

/// Of what guesses for `model`; null: nothing does.
const ModelConfig* DraftConfig(const LoadedModel& model, const RunnerOptions& options);

/// Masks of a step that outlive the call which brought them.
struct OwnedMask {
  int32_t slice = 0;
  int32_t output = 0;
  std::vector<uint32_t> words;
  bool last = false;
};

class ModelRunner {
 public:
  /// Sees the raw logits of a position: (index of the slice, position, [vocab]).
  using LogitsObserver =
      std::function<void(size_t slice, int32_t position, absl::Span<const float> logits)>;

  static absl::StatusOr<std::unique_ptr<ModelRunner>> Make(LoadedModel* model,
                                                           const RunnerOptions& options);

  const ExecutorLimits& limits() const { return limits_; }
  /// Whether a thread may still use what the runner and its model own: neither may ever go.
  bool abandoned() const { return network_->abandoned(); }
  /// Sets slots up and computes the plan's positions up to the logits. `plan` must live until
  /// Sample.
  absl::Status Forward(const StepPlan& plan);
  /// Draws the tokens of the step that Forward computed.
  absl::StatusOr<StepResult> Sample(absl::Span<const OwnedMask> masks);
  /// For tests and checks: sees every row of logits that a slice of kind kPromptLogprobs asks for.
  void set_observer(LogitsObserver observer) { observer_ = std::move(observer); }

 private:
  /// A slice of the step in progress.
  struct Piece {
    const SequenceSlice* slice = nullptr;
    size_t index = 0;  // of the slice in its plan
    Slot* slot = nullptr;
    int32_t begin = 0;         // as the device knows it
    int32_t row_begin = 0;     // in the batch
    int32_t logits_begin = 0;  // first of its rows of logits
    int32_t num_draws = 0;     // rows of logits to draw from
    int32_t num_drawn = 0;
    int32_t num_guessed = 0;  // of its tokens, by the draft model
    bool open = false;        // another token may be drawn
    bool last = false;        // behind the next draw none is
    SliceResult result;
  };

  ModelRunner() = default;
  /// Indices of the plan's slices: those without an adapter, then each adapter's side by side.
  std::vector<size_t> SliceOrder() const;
  absl::Status AddSlice(size_t index);
  /// The batch's last rows are an adapter's.
  absl::Status AddAdapted(const Piece& piece);
  absl::Status AddTokens(Piece& piece);
  absl::Status MakeDrafter();
  /// The network of a model whose layers ranks share, and their caches.
  absl::Status MakeRanks(const KvCacheOptions& kv);
  /// The network of one device, after the slots.
  absl::Status MakeDecoder();
  absl::Status MakeTier();
  absl::Status MoveBlocks();
  /// What guesses for the model has its part of the step: its guesses become input.
  absl::Status RunDrafts();
  /// Recurrent layers: what the slices start from, and the snapshots they leave.
  absl::Status LoadStates();
  void StoreStates();
  /// Where guesses may be wrong: before the pass, and once it is known which are.
  absl::Status StartRewind();
  void FinishRewind();
  /// A network that cannot go on is a fault of the device.
  absl::Status CheckNetwork();
  absl::Status ComputeOutputs();
  absl::Status ScorePrompt(size_t index);
  absl::Status ReadHidden(Piece& piece);
  absl::Status ComputeDrawLogits();
  HeadWork Head();
  /// [count, hidden] after the final norm, of rows of the batch.
  absl::StatusOr<std::vector<float>> NormedRows(int32_t first, int32_t count);
  void SampleRound(int32_t round, absl::Span<const OwnedMask> masks);
  bool Take(Piece& piece, SampledToken token);

  LoadedModel* model_ = nullptr;
  RunnerOptions options_;
  ExecutorLimits limits_;
  std::unique_ptr<KvCache> cache_;   // null: the ranks have theirs
  std::unique_ptr<BlockTier> tier_;  // null: there is none
  std::unique_ptr<SlotTable> slots_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Drafter> drafts_;      // null: nothing guesses
  std::unique_ptr<StateRewind> rewind_;  // null: no states, or no guesses
  std::vector<LayerCache> layers_;
  LogitsObserver observer_;

  // The step in progress.
  const StepPlan* plan_ = nullptr;
  std::vector<Piece> pieces_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> row_slots_;
  std::vector<int32_t> rope_rows_;
  std::vector<int32_t> segments_;
  std::vector<SequenceRows> sequences_;
  std::vector<AdaptedRows> adapted_;
  std::vector<std::shared_ptr<const AdapterWeights>> step_adapters_;  // keep adapted_'s alive
  BlockTier::Times moving_;                                           // what copies of blocks took
  DeviceBuffer gathered_;      // [rows, hidden], grown on demand
  DeviceBuffer draw_logits_;   // float32 [rows, vocab], grown on demand
  DeviceBuffer score_logits_;  // float32 [<= 256, vocab], grown on demand
  Tensor draws_;
  absl::Status fault_;  // sticky
};

}  // namespace penstock
