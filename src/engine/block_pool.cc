#include "engine/block_pool.h"

#include "base/status_macros.h"

namespace penstock {

BlockPool::BlockPool(int32_t num_blocks) : blocks_(num_blocks) {
  for (BlockId b = 0; b < num_blocks; ++b) LinkBack(b);
}

std::optional<BlockId> BlockPool::Allocate() {
  if (front_ == kNoBlock) return std::nullopt;
  const BlockId block = front_;
  Unlink(block);
  Forget(block);
  blocks_[block].holders = 1;
  return block;
}

void BlockPool::Hold(BlockId block) {
  if (blocks_[block].holders++ == 0) Unlink(block);
}

void BlockPool::Release(BlockId block) {
  CHECK(blocks_[block].holders > 0);
  if (--blocks_[block].holders > 0) return;
  if (blocks_[block].hashed) {
    LinkBack(block);
  } else {
    LinkFront(block);
  }
}

bool BlockPool::Register(BlockId block, const Hash128& hash) {
  CHECK(blocks_[block].holders > 0 && !blocks_[block].hashed);
  if (!by_hash_.try_emplace(hash, block).second) return false;
  blocks_[block].hashed = true;
  blocks_[block].hash = hash;
  return true;
}

BlockId BlockPool::Find(const Hash128& hash) const {
  const auto it = by_hash_.find(hash);
  return it == by_hash_.end() ? kNoBlock : it->second;
}

void BlockPool::ForgetAll() {
  num_free_cached_ = 0;
  for (Block& block : blocks_) block.hashed = false;
  by_hash_.clear();
}

void BlockPool::Forget(BlockId block) {
  if (!blocks_[block].hashed) return;
  by_hash_.erase(blocks_[block].hash);
  blocks_[block].hashed = false;
}

void BlockPool::LinkFront(BlockId block) {
  blocks_[block].prev = kNoBlock;
  blocks_[block].next = front_;
  (front_ == kNoBlock ? back_ : blocks_[front_].prev) = block;
  front_ = block;
  ++num_free_;
  if (blocks_[block].hashed) ++num_free_cached_;
}

void BlockPool::LinkBack(BlockId block) {
  blocks_[block].next = kNoBlock;
  blocks_[block].prev = back_;
  (back_ == kNoBlock ? front_ : blocks_[back_].next) = block;
  back_ = block;
  ++num_free_;
  if (blocks_[block].hashed) ++num_free_cached_;
}

void BlockPool::Unlink(BlockId block) {
  const auto [prev, next] = std::pair{blocks_[block].prev, blocks_[block].next};
  (prev == kNoBlock ? front_ : blocks_[prev].next) = next;
  (next == kNoBlock ? back_ : blocks_[next].prev) = prev;
  --num_free_;
  if (blocks_[block].hashed) --num_free_cached_;
}

}  // namespace penstock
