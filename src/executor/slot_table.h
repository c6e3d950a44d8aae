// What the executor remembers between the slices of a live sequence: block tables, sampling, the
// last sample.
// Owns all of it. Must not know the network.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "penstock/executor.h"

namespace penstock {

struct Slot {
  SequenceId sequence;
  bool in_use = false;
  SamplingParams sampling;
  std::vector<TokenId> stop_token_ids;
  int32_t prompt_tokens = 0;
  int32_t second_segment = 0;
  std::vector<int32_t>
      counts;  // [2, vocab]: occurrences in the prompt, in the output; empty: no penalties
  // Where a draft model guesses:
  std::vector<TokenId> tokens;    // that are known, by position
  SamplingParams draft_sampling;  // what of `sampling` a guess is drawn with
  int32_t draft_end = 0;          // positions before this are in the draft model's cache
  std::vector<TokenId> output;    // the last ones, where there are bad words: what those can match
  TokenId last_sample = -1;
  int32_t last_sample_position = -1;
  std::array<int32_t, kMaxCacheGroups> num_blocks{};
};

class SlotTable {
 public:
  explicit SlotTable(const ExecutorLimits& limits);

  /// INVALID_ARGUMENT where the slot does not exist or an id is outside the vocabulary.
  absl::Status Setup(const SlotSetup& setup);
  /// Appends a slice's blocks. INVALID_ARGUMENT where the slice is not of the slot's sequence or a
  /// block does not exist.
  absl::Status AppendBlocks(const StepPlan& plan, const SequenceSlice& slice);
  /// Whether positions [begin, end) have blocks to be written to.
  bool Covers(const Slot& slot, int32_t slot_index, int32_t begin, int32_t end) const;
  /// Ids that would complete one of the slot's bad words; the output alone can begin one.
  static void AppendBadWordEnds(const Slot& slot, std::vector<TokenId>& banned);
  /// Takes a drawn token in: the last sample, the counts, what bad words are held against.
  void Record(Slot& slot, TokenId token, int32_t position);

  bool Exists(SlotId id) const { return id.value >= 0 && id.value < limits_.num_slots; }
  Slot& at(SlotId id) { return slots_[id.value]; }
  const BlockId* tables(int32_t group) const { return tables_[group].data(); }
  int32_t max_blocks() const { return max_blocks_; }

 private:
  const ExecutorLimits& limits_;
  int32_t max_blocks_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::vector<BlockId>> tables_;  // per group: [num_slots, max_blocks]
};

}  // namespace penstock
