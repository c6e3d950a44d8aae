// One request on its way through the engine: tokens, block tables, progress.
// Owns its tokens; the blocks it names belong to BlockPool. Must not know text, metrics or devices.
// Threads: confined to the engine thread, but for what a MaskTask borrows.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "base/siphash.h"
#include "engine/speculator.h"
#include "penstock/engine.h"
#include "penstock/request.h"

namespace penstock {

/// The blocks of one sequence in one cache group, by logical index (position / block_size).
struct BlockTable {
  std::vector<BlockId> blocks;  // kNoBlock where the window has passed
  int32_t first_live = 0;       // entries before this are kNoBlock
  int32_t num_sent = 0;         // entries that the executor knows
};

/// Who runs first: lower rank. Priorities are strict, then tenants take turns, then first come, first
/// served.
struct Rank {
  int32_t priority = 0;
  uint64_t turn = 0;  // FairClock's
  uint64_t arrival = 0;
  friend constexpr auto operator<=>(const Rank&, const Rank&) = default;
};

/// A block of a sequence whose content is yet to come from the second tier.
struct PendingImport {
  size_t group = 0;
  int32_t index = 0;  // in the block table
  BlockId place = kNoBlock;
};

class MaskTask;

struct Sequence {
  SequenceId id;
  RequestId request_id;
  GenerateRequest request;
  std::shared_ptr<TokenSink> sink;
  Rank rank;

  std::vector<TokenId> tokens;  // prompt, then the outputs that are known
  // Positions launched so far: their K and V are, or will be, in the cache. While drafts are being
  // verified this and num_in_flight count them all as right, and the commit takes the wrong ones off.
  int32_t num_computed = 0;
  int32_t num_in_flight = 0;                         // outputs launched and not yet collected
  absl::InlinedVector<int32_t, 2> drafts_in_flight;  // of each slice launched with outputs to come
  absl::InlinedVector<bool, 2> forced_in_flight;     // of each: a grammar leaves nothing but them
  std::unique_ptr<TokenMatcher> matcher;  // of request.grammar, after the outputs that are known
  MaskTask* masks = nullptr;              // of the rows planned for it, until they are taken
  std::optional<DraftState> draft_state;
  double draft_rate = -1;  // how often a draft model's guess is right; < 0: not known yet
  SlotId slot{-1};         // -1: not running
  bool setup_sent = false;
  bool took_turn = false;         // another was preempted so that its tenant need not wait
  StepId planned_in;              // the last step that has a slice of it
  int32_t num_prompt_scored = 0;  // prompt positions whose log-probs the sink has
  std::array<BlockTable, kMaxCacheGroups> tables;
  std::vector<Hash128> hashes;    // of the full blocks of `tokens`, as far as computed lazily
  int32_t num_registered = 0;     // full blocks already made findable (or found) in the pools
  int32_t shared_prefix = 0;      // positions that another has computed, snapshot or not
  BlockId state_load = kNoBlock;  // snapshot to start from, held until the first slice is planned
  std::vector<PendingImport> imports;  // the last one comes next; it computes nothing before

  absl::Time submitted = absl::InfinitePast();
  absl::Time first_planned = absl::InfiniteFuture();
  absl::Time first_token = absl::InfiniteFuture();
  absl::Time last_token = absl::InfiniteFuture();
  Usage usage;

  bool has_begun() const { return first_planned != absl::InfiniteFuture(); }
  int32_t num_prompt() const { return static_cast<int32_t>(request.prompt.size()); }
  int32_t num_known() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_outputs() const { return num_known() - num_prompt(); }
  /// Positions that can be computed now: known tokens and the ones in flight.
  int32_t num_computable() const { return num_known() + num_in_flight; }
  /// Drafts whose verification is in flight.
  int32_t num_unverified() const {
    int32_t count = 0;
    for (const int32_t drafts : drafts_in_flight) count += drafts;
    return count;
  }
  int32_t num_remaining() const { return num_computable() - num_computed; }
  bool running() const { return slot.value >= 0; }
  /// Everything but the newest token is in the cache.
  bool decoding() const {
    return num_remaining() == 1 && num_computed >= num_prompt() && imports.empty();
  }
  /// All outputs it may have are drawn or in flight.
  bool exhausted() const {
    const int32_t most =
        request.output == OutputKind::kHidden ? 1 : std::max(request.max_tokens, 1);
    return num_outputs() + num_in_flight >= most;
  }
};

}  // namespace penstock
