// Gives sequences their blocks in every cache group: prefix hits, growth, windows, release.
// Owns the pools of all groups. Must not know who runs when.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/block_pool.h"
#include "engine/cache_tier.h"
#include "engine/prefix_hash.h"
#include "engine/sequence.h"
#include "penstock/executor.h"

namespace penstock {

class CacheTables {
 public:
  CacheTables(const ExecutorLimits& limits, bool prefix_cache, PrefixHasher hasher);

  /// Call before each plan: snapshots of the one before can be loaded from here on.
  void StartPlan() { fresh_states_.clear(); }
  /// Whether blocks that lose what they hold are copied to the second tier from here on.
  void AllowExports(bool allowed) { tier_.AllowExports(allowed); }
  /// Whether the group's blocks hold positions (a recurrent group's hold states).
  bool holds_positions(size_t group) const {
    return groups_[group].retention != CacheRetention::kRecurrent;
  }

  /// Blocks that `num_tokens` positions of one sequence can hold at once, per group; the step may
  /// compute `step` of them.
  int32_t BlocksFor(size_t group, int32_t num_tokens, int32_t step) const;

  /// At num_computed == 0: takes the longest cached prefix that every group can serve. Returns the
  /// tokens found.
  int32_t MatchPrefix(Sequence& seq);
  /// What the next full block of a sequence that stands at a block border is.
  enum class Next : uint8_t {
    kFound,  // another sequence has computed it meanwhile: taken, num_computed advanced by a block
    kBeingMade,  // a sequence that runs earlier is about to compute it: wait
    kCompute,    // compute it
  };
  Next NextBlock(Sequence& seq);

  /// What of a sequence's tokens, from a block border where it stands, the second tier can add.
  struct TierOffer {
    int32_t num_blocks = 0;  // of the sequence, with those that it has; 0: nothing
    int64_t bytes = 0;       // to be copied for that
  };
  TierOffer FindInTier(const Sequence& seq) const;
  /// Takes what was offered: num_computed advances, and what is to be copied is in seq.imports.
  /// False: there is no room, nothing changed.
  bool TakeOffer(Sequence& seq, const TierOffer& offer);
  /// What seq.imports still are: the positions from the first of them on, and bytes.
  struct ImportsLeft {
    int32_t num_positions = 0;
    int64_t bytes = 0;
  };
  ImportsLeft ImportsLeftOf(const Sequence& seq) const;
  /// Gives them up: the sequence stands before the first of them. False: nothing changed, since the
  /// blocks that a window would need there are not held.
  bool DropImports(Sequence& seq);
  /// Copies the next of seq.imports before the step that is being planned; returns its bytes.
  int64_t ImportNext(Sequence& seq);
  /// Copies to make before the step that has been planned.
  std::vector<BlockMove> TakeMoves() { return tier_.TakeMoves(); }
  const CacheTier& tier() const { return tier_; }

  /// Where the sequence's hashes start: what has another root shares nothing with it.
  Hash128 Root(const Sequence& seq) const;
  /// How many of `num_tokens` more positions to compute, so that a recurrent state is at a block
  /// border where a later prompt may want it.
  int32_t AlignChunk(const Sequence& seq, int32_t num_tokens) const;
  /// What a slice that ends before position `end` loads and stores; forgets the sequence's load.
  StateBlocks TakeStates(Sequence& seq, int32_t end);

  /// Makes room for positions up to `end` and lets go of what no window reaches. False: nothing
  /// changed but the windows.
  bool Grow(Sequence& seq, int32_t end);
  /// Makes the blocks that are full and computed findable.
  void RegisterComputed(Sequence& seq);
  /// Lets go of everything; cached blocks stay findable until they are needed.
  void Release(Sequence& seq);
  /// Forgets all cached prefixes.
  void Reset();

  /// Blocks of `group` that the sequence still has to get before all its known tokens are computed.
  int32_t Demand(const Sequence& seq, size_t group, int32_t step) const;
  const BlockPool& pool(size_t group) const { return pools_[group]; }
  size_t num_groups() const { return pools_.size(); }
  int32_t block_size() const { return block_size_; }
  /// Held blocks / blocks, of the fullest group; [0, 1].
  double usage() const;

 private:
  bool CanGrow(const Sequence& seq, int32_t num_blocks) const;
  /// A block of a pool that has one; what it held goes to the second tier.
  BlockId Allocate(size_t group);
  /// Lets go of blocks before `first`, as far as the table goes.
  void PassBlocks(size_t group, BlockTable& table, int32_t first);
  void ExtendHashes(Sequence& seq, int32_t num_blocks);
  bool TakesHits(const Sequence& seq) const;
  bool WindowCached(const Sequence& seq, size_t group, int32_t num_blocks) const;
  bool InEitherTier(size_t group, const Hash128& hash) const;
  int32_t FirstNeeded(size_t group,
                      int32_t begin) const;  // first block that position `begin` reads
  void Claim(Sequence& seq);
  void NoteImported(Sequence& seq);
  bool StateCached(const Sequence& seq, int32_t num_blocks) const;

  std::vector<CacheGroup> groups_;
  std::vector<BlockPool> pools_;
  CacheTier tier_;
  int32_t block_size_;
  int32_t prefix_split_;
  bool prefix_cache_;
  PrefixHasher hasher_;
  int32_t state_group_ = -1;           // the recurrent one; -1: none
  std::vector<BlockId> fresh_states_;  // stored by the plan being made: loads come before stores
  struct Maker {
    SequenceId sequence;
    Rank rank;
  };
  absl::flat_hash_map<Hash128, Maker>
      being_made_;  // full prompt blocks that a running sequence will compute
};

}  // namespace penstock
