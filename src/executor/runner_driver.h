// Drives a ModelRunner by hand, as the scheduler would: slots, blocks, slices; greedy. For checks
// and tests. Owns the accounting of blocks; borrows the runner. Must not know what is checked.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "executor/model_runner.h"

namespace penstock {

/// A sequence in the driver's care.
struct DrivenSequence {
  std::vector<TokenId> tokens;  // prompt, then what was drawn
  int32_t num_prompt = 0;
  int32_t num_computed = 0;
  std::vector<std::vector<BlockId>> blocks;  // per group
  std::vector<float> logits;  // [num_prompt, vocab], as far as computed; empty: not wanted
  SamplingParams sampling;
  SequenceId id;
  SlotId slot;
  AdapterId adapter = kNoAdapter;
  bool setup_sent = false;
  std::vector<int32_t> num_sent;      // per group: blocks that the slot knows
  std::map<int32_t, BlockId> states;  // recurrent models: snapshots by position
  BlockId state_load = kNoBlock;      // for the next slice
};

class RunnerDriver {
 public:
  explicit RunnerDriver(ModelRunner* runner);
  ~RunnerDriver();

  /// A new sequence on a free slot. `keep_logits`: raw logits at every prompt position.
  DrivenSequence Begin(absl::Span<const TokenId> prompt, bool keep_logits,
                       AdapterId adapter = kNoAdapter);
  /// Shares the first `num_positions` (a multiple of the block size) that `donor` has computed.
  void SharePrefix(const DrivenSequence& donor, int32_t num_positions, DrivenSequence& sequence);
  /// Gives slot and blocks up; the tokens stay, and the next step computes from position 0 on other
  /// blocks.
  void Preempt(DrivenSequence& sequence);
  /// Gives slot and blocks back. Blocks shared by SharePrefix must be given back by one holder
  /// only.
  void End(DrivenSequence& sequence, int32_t num_shared_positions = 0);

  struct Item {
    DrivenSequence* sequence;
    int32_t num_tokens;
  };
  /// One step: the next num_tokens positions of each. A sequence whose last position is computed
  /// gets a token more.
  absl::Status Step(absl::Span<const Item> items);
  /// Steps of at most `chunk` tokens until the prompt is computed and has `num_tokens` tokens
  /// after it.
  absl::Status Run(DrivenSequence& sequence, int32_t chunk, int32_t num_tokens);

 private:
  void AddSlice(const Item& item, StepPlan& plan);
  void AddStates(DrivenSequence& sequence, SequenceSlice& slice);

  ModelRunner* runner_;
  std::vector<std::vector<BlockId>> free_blocks_;  // per group
  int32_t state_group_ = -1;                       // the recurrent one; -1: none
  std::vector<SlotId> free_slots_;
  uint64_t next_id_ = 1;
  uint64_t next_step_ = 1;
  std::vector<DrivenSequence*> observed_;  // by slice of the step in progress
};

}  // namespace penstock
