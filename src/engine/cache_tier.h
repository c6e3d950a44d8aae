// The second tier of the prefix cache: which blocks it holds that the device has had to forget, and
// what is to be copied between the two.
// Owns counts, the index of hashes and the copies to make; the bytes belong to the executor.
// Must not know sequences.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/block_pool.h"
#include "penstock/executor.h"

namespace penstock {

class CacheTier {
 public:
  explicit CacheTier(const std::vector<CacheGroup>& groups);
  /// Whether there is one; it holds blocks of every group then.
  bool on() const { return on_; }

  /// The place that has the content of this hash; kNoBlock if none.
  BlockId Find(size_t group, const Hash128& hash) const { return places_[group].Find(hash); }
  /// `block`, which has the content of `hash`, is about to get another: the place that was used
  /// longest ago takes it, unless one has it. Where all places are held, or copies are not allowed
  /// now, it is lost.
  void Export(size_t group, BlockId block, const Hash128& hash);
  void AllowExports(bool allowed) { may_export_ = allowed; }
  /// The place keeps what it has until it is imported or let go, whoever else holds it.
  void Hold(size_t group, BlockId place) { places_[group].Hold(place); }
  void LetGo(size_t group, BlockId place) { places_[group].Release(place); }
  /// `block` gets what a held place has; the place is let go.
  void Import(size_t group, BlockId block, BlockId place);
  /// Forgets every hash. Held places keep their content until they are let go.
  void ForgetAll();
  /// What is to be copied, in order, before the next step that is planned; each once.
  std::vector<BlockMove> TakeMoves() { return std::exchange(moves_, {}); }

  int32_t num_places() const;
  int32_t num_used() const;
  int32_t num_held() const;
  int64_t num_exported() const { return num_exported_; }
  int64_t num_imported() const { return num_imported_; }
  int64_t num_evicted() const { return num_evicted_; }  // of the tier, for another block
  int64_t num_lost() const { return num_lost_; }        // not exported
  int64_t exported_bytes() const { return exported_bytes_; }
  int64_t imported_bytes() const { return imported_bytes_; }

 private:
  std::vector<int64_t> block_bytes_;  // by group
  std::vector<BlockPool> places_;     // by group: a place is a block of it
  bool on_ = false;
  bool may_export_ = true;
  std::vector<BlockMove> moves_;
  int64_t num_exported_ = 0, num_imported_ = 0, num_evicted_ = 0, num_lost_ = 0;
  int64_t exported_bytes_ = 0, imported_bytes_ = 0;
};

}  // namespace penstock
