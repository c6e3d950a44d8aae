// Seam 2, between Decide and Compute: steps of numbers in, tokens out.
// Owns nothing. Must not know requests, sinks, text; a plan refers to no object of the engine.
// Threads: an Executor is confined to the engine thread; plans and results are values.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "penstock/engine.h"
#include "penstock/request.h"
#include "penstock/types.h"

namespace penstock {

/// How long a group of layers needs what it has cached.
enum class CacheRetention : uint8_t {
  kFull,       // every position
  kWindow,     // the last `window` positions
  kRecurrent,  // a block is a snapshot of the whole state
  kDraft,      // the draft model's, every position
};

struct CacheGroup {
  CacheRetention retention = CacheRetention::kFull;
  int32_t window = 0;       // kWindow: position p attends to (p - window, p]
  int64_t block_bytes = 0;  // of one block over all layers of the group
  int32_t num_blocks = 0;   // allocated at start; never grows
  int32_t tier_blocks = 0;  // that a second tier holds beside them; 0: there is none
};

struct ExecutorLimits {
  std::vector<CacheGroup> groups;  // [1 .. kMaxCacheGroups]; empty for encoders
  int32_t block_size = 16;         // positions per block
  int32_t num_slots = 0;           // sequences that can be live at once
  int32_t pipeline_depth = 1;      // steps that may be launched and not yet collected: 1 or 2
  int32_t max_step_tokens = 0;     // positions one step may compute
  int32_t max_context = 0;         // positions of one sequence
  int32_t vocab_size = 0;
  int32_t prefix_split = 0;      // > 0: prompts longer than this share no prefix with shorter ones
  bool can_chunk = true;         // false: a prompt must be computed in one slice
  int32_t max_adapters = 0;      // different ones in one step; 0: none are supported
  int32_t max_model_drafts = 0;  // > 0: it guesses so many tokens of a slice, takes states back
};

/// A range of StepPlan::block_ids: blocks appended to a slot's table of a group since its last slice.
struct BlockDelta {
  int32_t begin = 0;  // index into StepPlan::block_ids
  int32_t count = 0;
};

/// Snapshots of a recurrent group.
struct StateBlocks {
  BlockId load = kNoBlock;   // state before `begin`; kNoBlock: zero at begin 0, else the slot's own
  BlockId store = kNoBlock;  // where the state after the last position goes; kNoBlock: nowhere
};

/// Compute positions [begin, begin + num_tokens) of one sequence: prefill, decode, verification.
/// In every layer the K and V of all slices of a step are written before any attention of that step
/// reads, so that one slice may read blocks which another slice of the same step fills.
struct SequenceSlice {
  SequenceId sequence;
  SlotId slot;
  AdapterId adapter = kNoAdapter;
  int32_t begin = 0;
  int32_t num_tokens = 0;
  int32_t token_offset = 0;  // first index into StepPlan::tokens
  int32_t num_drafts = 0;  // the last ones of the tokens are guesses to verify; -1: a draft model's
  bool draft_along = false;  // the draft model computes these positions as well
  int32_t num_outputs = 0;   // the last num_outputs positions yield `kind`
  // kPromptLogprobs: StepPlan::tokens holds num_tokens + 1 ids for this slice. Position p is scored
  // against the id after it; where that is -1 (the end of the prompt) a token is drawn from it
  // instead.
  OutputKind kind = OutputKind::kNone;
  int32_t num_logprobs = 0;       // kPromptLogprobs: and the n most likely
  bool feed_last_sample = false;  // the (single) input is the slot's last sample, on the device
  bool begin_on_device = false;   // a verification is in flight: `begin` is the largest possible
  StateBlocks state;              // recurrent group, where there is one
  std::array<BlockDelta, kMaxCacheGroups> blocks;
};

/// Sent once before a slot's first slice (and again after a preemption): resets the slot's tables
/// and sampler.
struct SlotSetup {
  SlotId slot;
  SequenceId sequence;
  SamplingParams sampling;
  std::vector<TokenId> stop_token_ids;  // masked while fewer than min_tokens are out
  int32_t second_segment = 0;           // GenerateRequest's
  int32_t prompt_tokens = 0;            // positions before this are prompt, from here on output
  std::vector<TokenId> history;  // prompt and output, where sampling or a draft model needs them
};

/// Copies a block to its group's second tier or back; a place of it is a block with its scales.
struct BlockMove {
  int32_t group = 0;
  BlockId block = kNoBlock;
  BlockId place = kNoBlock;  // [0, CacheGroup::tier_blocks)
  bool to_block = false;     // else to the tier
};

struct StepPlan {
  StepId step;
  std::vector<BlockMove> moves;       // in this order, before anything else
  std::vector<SlotSetup> setups;      // applied before the slices
  std::vector<SequenceSlice> slices;  // in order; a slot appears at most once
  std::vector<TokenId> tokens;        // flat input ids; -1: the device's own sample or guess
  std::vector<BlockId> block_ids;     // flat, see BlockDelta
};

/// Allowed tokens of one output row. Bit i of the words: token i may be drawn.
struct RowMask {
  int32_t slice = 0;                 // index into StepPlan::slices
  int32_t output = 0;                // [0, num_outputs)
  absl::Span<const uint32_t> words;  // [ceil(vocab / 32)]; read before Sample returns
  bool last = false;                 // drafts behind this row count as wrong, whatever is drawn
};

/// What one slice yielded.
struct SliceResult {
  SequenceId sequence;
  SlotId slot;
  int32_t num_accepted = 0;  // drafts that were right; tokens.size() == num_accepted + 1 for kToken
  std::vector<SampledToken> tokens;  // drawn tokens, oldest first
  RequestOutput output;              // kPromptLogprobs, kHidden
  absl::Status fault;                // of this sequence alone: it yields nothing any more
};

struct StepResult {
  StepId step;
  std::vector<SliceResult> slices;      // those with num_outputs > 0, in plan order
  std::vector<absl::Status> controls;   // of the Control calls since the step before
  absl::Duration importing, exporting;  // what moves to blocks took, and those to the tier
};

/// Runs steps in launch order: a block may be reused as soon as the plan that frees it is made.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual const ExecutorLimits& limits() const = 0;
  /// Enqueues all up to the logits; does not wait. An error is a broken plan or a device fault.
  virtual absl::Status Launch(const StepPlan& plan) = 0;
  /// For callers who must wait before they can Sample: does what Launch has put off until Collect.
  virtual absl::Status Forward() { return absl::OkStatus(); }
  /// Enqueues masks and sampling of a launched step: exactly once per step, before the next Launch.
  virtual absl::Status Sample(StepId step, absl::Span<const RowMask> masks) = 0;
  /// The oldest launched step; waits for it. A device fault is sticky: every later call returns it.
  virtual absl::StatusOr<StepResult> Collect() = 0;
  /// Enqueues a command between steps; its status arrives in StepResult::controls, or is returned
  /// when refused at once.
  virtual absl::Status Control(const Command& command) = 0;
};

}  // namespace penstock
