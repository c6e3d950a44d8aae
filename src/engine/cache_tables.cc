#include "engine/cache_tables.h"

#include <algorithm>
#include <optional>

#include "base/status_macros.h"

namespace penstock {

CacheTables::CacheTables(const ExecutorLimits& limits, bool prefix_cache, PrefixHasher hasher)
    : groups_(limits.groups),
      tier_(limits.groups),
      block_size_(limits.block_size),
      prefix_split_(limits.prefix_split),
      prefix_cache_(prefix_cache),
      hasher_(hasher) {
  CHECK(groups_.size() <= kMaxCacheGroups);
  for (size_t g = 0; g < groups_.size(); ++g) {
    pools_.emplace_back(groups_[g].num_blocks);
    if (!holds_positions(g)) state_group_ = static_cast<int32_t>(g);
  }
}

int32_t CacheTables::BlocksFor(size_t group, int32_t num_tokens, int32_t step) const {
  if (!holds_positions(group)) return 0;
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

Hash128 CacheTables::Root(const Sequence& seq) const {
  const Hash128 root = hasher_.Root(seq.request.cache_salt, seq.request.adapter);
  if (prefix_split_ == 0 || seq.num_prompt() <= prefix_split_) return root;
  return hasher_.Next(root, {-1});  // a chain of its own: no token is -1
}

void CacheTables::ExtendHashes(Sequence& seq, int32_t num_blocks) {
  while (static_cast<int32_t>(seq.hashes.size()) < num_blocks) {
    const size_t i = seq.hashes.size();
    const Hash128 parent = i == 0 ? Root(seq) : seq.hashes[i - 1];
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

bool CacheTables::StateCached(const Sequence& seq, int32_t num_blocks) const {
  if (state_group_ < 0) return true;
  const BlockId block = pools_[state_group_].Find(seq.hashes[num_blocks - 1]);
  return block != kNoBlock &&
         std::find(fresh_states_.begin(), fresh_states_.end(), block) == fresh_states_.end();
}

int32_t CacheTables::AlignChunk(const Sequence& seq, int32_t num_tokens) const {
  if (state_group_ < 0 || !TakesHits(seq)) return num_tokens;
  const int32_t begin = seq.num_computed;
  const int32_t end = begin + num_tokens;
  const int32_t last_border = (seq.num_prompt() - 1) / block_size_ * block_size_;
  for (const int32_t wanted : {seq.shared_prefix, last_border}) {
    if (begin < wanted && end > wanted) return wanted - begin;
  }
  const int32_t border = end / block_size_ * block_size_;
  return end < seq.num_known() && border > begin ? border - begin : num_tokens;
}

StateBlocks CacheTables::TakeStates(Sequence& seq, int32_t end) {
  StateBlocks states;
  if (state_group_ < 0) return states;
  BlockPool& pool = pools_[state_group_];
  states.load = seq.state_load;
  if (states.load != kNoBlock) pool.Release(states.load);
  seq.state_load = kNoBlock;
  if (!TakesHits(seq) || end % block_size_ != 0 || end > seq.num_prompt()) return states;
  ExtendHashes(seq, end / block_size_);
  const Hash128& hash = seq.hashes[end / block_size_ - 1];
  if (pool.Find(hash) != kNoBlock) return states;
  const std::optional<BlockId> block = pool.Allocate();
  if (!block) return states;
  states.store = *block;
  pool.Register(*block, hash);
  pool.Release(*block);
  fresh_states_.push_back(*block);
  return states;
}

int32_t CacheTables::MatchPrefix(Sequence& seq) {
  CHECK(seq.num_computed == 0);
  if (!TakesHits(seq)) return 0;
  // The last token is always computed: its logits are wanted.
  int32_t found = (seq.num_known() - 1) / block_size_;
  ExtendHashes(seq, found);
  for (size_t g = 0; g < groups_.size(); ++g) {  // full groups need the whole chain
    if (groups_[g].retention == CacheRetention::kWindow || !holds_positions(g)) continue;
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
  seq.shared_prefix = found * block_size_;
  while (found > 0 && !(windows_cached(found) && StateCached(seq, found))) --found;
  if (state_group_ >= 0 && found > 0) {
    seq.state_load = pools_[state_group_].Find(seq.hashes[found - 1]);
    pools_[state_group_].Hold(seq.state_load);
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!holds_positions(g)) continue;
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
  // A sequence with a recurrent state cannot step over a block: the state lies in its slot.
  if (!TakesHits(seq) || state_group_ >= 0 || seq.num_computed % block_size_ != 0 ||
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
    // Where a verification is in flight, the next position may be before num_computed.
    const int32_t next = seq.num_computed - seq.num_unverified();
    PassBlocks(g, table, FirstNeeded(g, next));
  }
  const int32_t num_blocks = (end + block_size_ - 1) / block_size_;
  if (!CanGrow(seq, num_blocks)) return false;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!holds_positions(g)) continue;
    while (static_cast<int32_t>(seq.tables[g].blocks.size()) < num_blocks) {
      seq.tables[g].blocks.push_back(Allocate(g));
    }
  }
  return true;
}

void CacheTables::PassBlocks(size_t group, BlockTable& table, int32_t first) {
  first = std::min<int32_t>(first, table.blocks.size());
  for (; table.first_live < first; ++table.first_live) {
    BlockId& block = table.blocks[table.first_live];
    if (block != kNoBlock) pools_[group].Release(block);
    block = kNoBlock;
  }
}

bool CacheTables::CanGrow(const Sequence& seq, int32_t num_blocks) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!holds_positions(g)) continue;
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
      if (!holds_positions(g)) continue;
      const BlockId block = seq.tables[g].blocks[seq.num_registered];
      if (block != kNoBlock) pools_[g].Register(block, hash);
    }
    being_made_.erase(hash);
  }
}

void CacheTables::Release(Sequence& seq) {
  for (const PendingImport& import : seq.imports) tier_.LetGo(import.group, import.place);
  seq.imports.clear();
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
  if (seq.state_load != kNoBlock) pools_[state_group_].Release(seq.state_load);
  seq.state_load = kNoBlock;
  seq.num_registered = 0;
  seq.num_computed = 0;
}

void CacheTables::Reset() {
  for (BlockPool& pool : pools_) pool.ForgetAll();
  tier_.ForgetAll();
}

double CacheTables::usage() const {
  double worst = 0;
  for (size_t g = 0; g < pools_.size(); ++g) {
    const BlockPool& pool = pools_[g];
    if (pool.num_blocks() > 0 && holds_positions(g))
      worst = std::max(worst, double(pool.num_held()) / pool.num_blocks());
  }
  return worst;
}

}  // namespace penstock
