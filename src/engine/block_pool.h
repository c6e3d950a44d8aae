// The blocks of one cache group: who holds them, which are free, which still hold a known prefix.
// Owns counts and the hash index; the bytes belong to the executor. Must not know sequences.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/siphash.h"
#include "penstock/types.h"

namespace penstock {

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);

  /// A block nobody holds, now held once: empty ones first, then the least recently used cached
  /// one, which is forgotten.
  std::optional<BlockId> Allocate();
  /// The hash that the next Allocate forgets; null: none. Valid until the pool changes.
  const Hash128* NextForgotten() const {
    return front_ != kNoBlock && blocks_[front_].hashed ? &blocks_[front_].hash : nullptr;
  }
  /// One more holder; the block may be free (a prefix hit revives it).
  void Hold(BlockId block);
  /// One holder less. The last one frees it: it stays findable by its hash until it is allocated
  /// again.
  void Release(BlockId block);

  /// Makes a held block findable. False where another block already has this hash.
  bool Register(BlockId block, const Hash128& hash);
  /// The block with this hash, held or free; kNoBlock if none.
  BlockId Find(const Hash128& hash) const;
  /// Forgets every hash; held blocks stay held.
  void ForgetAll();

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t num_free() const { return num_free_; }
  int32_t num_held() const { return num_blocks() - num_free_; }
  int32_t num_free_cached() const { return num_free_cached_; }  // of the free ones, still findable
  int32_t num_cached() const { return static_cast<int32_t>(by_hash_.size()); }

 private:
  struct Block {
    int32_t holders = 0;
    bool hashed = false;
    Hash128 hash;
    BlockId prev = kNoBlock;  // free list
    BlockId next = kNoBlock;
  };
  void LinkFront(BlockId block);
  void LinkBack(BlockId block);
  void Unlink(BlockId block);
  void Forget(BlockId block);

  std::vector<Block> blocks_;
  absl::flat_hash_map<Hash128, BlockId> by_hash_;
  BlockId front_ = kNoBlock;  // allocated next
  BlockId back_ = kNoBlock;
  int32_t num_free_ = 0;
  int32_t num_free_cached_ = 0;
};

}  // namespace penstock
