#include "engine/cache_tables.h"

#include <algorithm>

#include "base/status_macros.h"

namespace penstock {

CacheTables::CacheTables(const ExecutorLimits& limits, bool prefix_cache, PrefixHasher hasher)
    : groups_(limits.groups),
      block_size_(limits.block_size),
      prefix_cache_(prefix_cache),
      hasher_(std::move(hasher)) {
  CHECK(groups_.size() <= kMaxCacheGroups);
  for (const CacheGroup& group : groups_) pools_.emplace_back(group.num_blocks);
}

int32_t CacheTables::BlocksFor(size_t group, int32_t num_tokens, int32_t step) const {
  const int32_t all = (num_tokens + block_size_ - 1) / block_size_;
  if (groups_[group].retention != CacheRetention::kWindow) return all;
  return std::min(all, (groups_[group].window + step + block_size_ - 1) / block_size_ + 1);
}

int32_t CacheTables::FirstNeeded(size_t group, int32_t begin) const {
  if (groups_[group].retention != CacheRetention::kWindow) return 0;
  return std::max(0, begin - groups_[group].window + 1) / block_size_;
}

bool CacheTables::TakesHits(const Sequence& seq) const {
  return prefix_cache_ && !groups_.empty() && seq.request.output != OutputKind::kPromptLogprobs;
}

void CacheTables::ExtendHashes(Sequence& seq, int32_t num_blocks) {
  while (static_cast<int32_t>(seq.hashes.size()) < num_blocks) {
    const size_t i = seq.hashes.size();
    const Hash128 parent =
        i == 0 ? hasher_.Root(seq.request.cache_salt, seq.request.adapter) : seq.hashes[i - 1];
    seq.hashes.push_back(hasher_.Next(
        parent, {seq.tokens.data() + i * block_size_, static_cast<size_t>(block_size_)}));
  }
}

bool CacheTables::WindowCached(const Sequence& seq, size_t group, int32_t num_blocks) const {
  for (int32_t i = FirstNeeded(group, num_blocks * block_size_); i < num_blocks; ++i) {
    if (pools_[group].Find(seq.hashes[i]) == kNoBlock) return false;
  }
  return true;
}

int32_t CacheTables::MatchPrefix(Sequence& seq) {
  CHECK(seq.num_computed == 0);
  if (!TakesHits(seq)) return 0;
  // The last token is always computed: its logits are wanted.
  int32_t found = (seq.num_known() - 1) / block_size_;
  ExtendHashes(seq, found);
  for (size_t g = 0; g < groups_.size(); ++g) {  // full groups need the whole chain
    if (groups_[g].retention == CacheRetention::kWindow) continue;
    int32_t n = 0;
    while (n < found && pools_[g].Find(seq.hashes[n]) != kNoBlock) ++n;
    found = n;
  }
  auto windows_cached = [&](int32_t n) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (groups_[g].retention == CacheRetention::kWindow && !WindowCached(seq, g, n)) return false;
    }
    return true;
  };
  while (found > 0 && !windows_cached(found)) --found;
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = seq.tables[g];
    table.first_live = FirstNeeded(g, found * block_size_);
    table.blocks.assign(found, kNoBlock);
    for (int32_t i = table.first_live; i < found; ++i) {
      table.blocks[i] = pools_[g].Find(seq.hashes[i]);
      pools_[g].Hold(table.blocks[i]);
    }
  }
  seq.num_registered = found;
  seq.num_computed = found * block_size_;
  Claim(seq);
  return seq.num_computed;
}

void CacheTables::Claim(Sequence& seq) {
  for (size_t i = seq.num_registered; i < seq.hashes.size(); ++i) {
    being_made_.try_emplace(seq.hashes[i], Maker{seq.id, seq.rank});
  }
}

CacheTables::Next CacheTables::NextBlock(Sequence& seq) {
  const int32_t block = seq.num_computed / block_size_;
  if (!TakesHits(seq) || seq.num_computed % block_size_ != 0 ||
      block >= (seq.num_known() - 1) / block_size_ ||
      block >= static_cast<int32_t>(seq.hashes.size())) {
    return Next::kCompute;
  }
  const Hash128& hash = seq.hashes[block];
  const bool found = std::all_of(pools_.begin(), pools_.end(), [&](const BlockPool& pool) {
    return pool.Find(hash) != kNoBlock;
  });
  if (found) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      seq.tables[g].blocks.resize(block, kNoBlock);
      seq.tables[g].blocks.push_back(pools_[g].Find(hash));
      pools_[g].Hold(seq.tables[g].blocks.back());
    }
    seq.num_computed += block_size_;
    seq.num_registered = block + 1;
    being_made_.erase(hash);
    return Next::kFound;
  }
  Maker& maker = being_made_.try_emplace(hash, Maker{seq.id, seq.rank}).first->second;
  if (maker.sequence == seq.id) return Next::kCompute;
  if (maker.rank < seq.rank) return Next::kBeingMade;
  maker = {seq.id, seq.rank};  // the one that runs earlier makes it
  return Next::kCompute;
}

bool CacheTables::Grow(Sequence& seq, int32_t end) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = seq.tables[g];
    const int32_t first = std::min<int32_t>(FirstNeeded(g, seq.num_computed), table.blocks.size());
    for (; table.first_live < first; ++table.first_live) {
      BlockId& block = table.blocks[table.first_live];
      if (block != kNoBlock) pools_[g].Release(block);
      block = kNoBlock;
    }
  }
  const int32_t num_blocks = (end + block_size_ - 1) / block_size_;
  if (!CanGrow(seq, num_blocks)) return false;
  for (size_t g = 0; g < groups_.size(); ++g) {
    while (static_cast<int32_t>(seq.tables[g].blocks.size()) < num_blocks) {
      seq.tables[g].blocks.push_back(*pools_[g].Allocate());
    }
  }
  return true;
}

bool CacheTables::CanGrow(const Sequence& seq, int32_t num_blocks) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (num_blocks - static_cast<int32_t>(seq.tables[g].blocks.size()) > pools_[g].num_free())
      return false;
  }
  return true;
}

int32_t CacheTables::Demand(const Sequence& seq, size_t group, int32_t step) const {
  const BlockTable& table = seq.tables[group];
  const int32_t held = static_cast<int32_t>(table.blocks.size()) - table.first_live;
  return std::max(0, BlocksFor(group, seq.num_known(), step) - held);
}

void CacheTables::RegisterComputed(Sequence& seq) {
  if (!prefix_cache_ || groups_.empty()) return;
  const int32_t full = std::min(seq.num_computed, seq.num_known()) / block_size_;
  ExtendHashes(seq, full);
  for (; seq.num_registered < full; ++seq.num_registered) {
    const Hash128& hash = seq.hashes[seq.num_registered];
    for (size_t g = 0; g < groups_.size(); ++g) {
      const BlockId block = seq.tables[g].blocks[seq.num_registered];
      if (block != kNoBlock) pools_[g].Register(block, hash);
    }
    being_made_.erase(hash);
  }
}

void CacheTables::Release(Sequence& seq) {
  for (size_t i = seq.num_registered; i < seq.hashes.size(); ++i) {
    if (const auto it = being_made_.find(seq.hashes[i]);
        it != being_made_.end() && it->second.sequence == seq.id) {
      being_made_.erase(it);
    }
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<BlockId>& blocks = seq.tables[g].blocks;
    for (size_t i = blocks.size();
         i-- > 0;) {  // the end of a prefix is forgotten before its beginning
      if (blocks[i] != kNoBlock) pools_[g].Release(blocks[i]);
    }
    seq.tables[g] = BlockTable{};
  }
  seq.num_registered = 0;
  seq.num_computed = 0;
}

void CacheTables::Reset() {
  for (BlockPool& pool : pools_) pool.ForgetAll();
}

double CacheTables::usage() const {
  double worst = 0;
  for (const BlockPool& pool : pools_) {
    if (pool.num_blocks() > 0) worst = std::max(worst, double(pool.num_held()) / pool.num_blocks());
  }
  return worst;
}

}  // namespace penstock
