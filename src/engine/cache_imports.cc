// CacheTables: what goes to the second tier of the prefix cache, and how it comes back.
#include <algorithm>
#include <array>
#include <utility>

#include "base/status_macros.h"
#include "engine/cache_tables.h"

namespace penstock {

BlockId CacheTables::Allocate(size_t group) {
  BlockPool& pool = pools_[group];
  const Hash128* forgotten = tier_.on() ? pool.NextForgotten() : nullptr;
  if (forgotten == nullptr) return *pool.Allocate();
  const Hash128 hash = *forgotten;
  const BlockId block = *pool.Allocate();
  tier_.Export(group, block, hash);
  return block;
}

bool CacheTables::InEitherTier(size_t group, const Hash128& hash) const {
  return pools_[group].Find(hash) != kNoBlock || tier_.Find(group, hash) != kNoBlock;
}

CacheTables::TierOffer CacheTables::FindInTier(const Sequence& seq) const {
  TierOffer none;
  if (!tier_.on() || !TakesHits(seq) || seq.num_computed % block_size_ != 0) return none;
  const int32_t begin = seq.num_computed / block_size_;
  // The last token is always computed: its logits are wanted.
  auto end = std::min<int32_t>((seq.num_known() - 1) / block_size_,
                               static_cast<int32_t>(seq.hashes.size()));
  const auto is_window = [&](size_t g) { return groups_[g].retention == CacheRetention::kWindow; };
  for (size_t g = 0; g < groups_.size(); ++g) {  // full groups need the whole chain
    if (is_window(g)) continue;
    int32_t n = begin;
    while (n < end && InEitherTier(g, seq.hashes[n])) ++n;
    end = n;
  }
  const auto windows_cached = [&](int32_t n) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (!is_window(g)) continue;
      for (int32_t i = std::max(begin, FirstNeeded(g, n * block_size_)); i < n; ++i) {
        if (!InEitherTier(g, seq.hashes[i])) return false;
      }
    }
    return true;
  };
  while (end > begin && !windows_cached(end)) --end;
  if (end <= begin) return none;
  TierOffer offer{end, 0};
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (int32_t i = std::max(begin, FirstNeeded(g, end * block_size_)); i < end; ++i) {
      if (pools_[g].Find(seq.hashes[i]) == kNoBlock) offer.bytes += groups_[g].block_bytes;
    }
  }
  return offer;
}

bool CacheTables::TakeOffer(Sequence& seq, const TierOffer& offer) {
  const int32_t begin = seq.num_computed / block_size_;
  const int32_t end = offer.num_blocks;
  std::vector<PendingImport> imports;
  std::array<std::vector<BlockId>, kMaxCacheGroups>
      added;  // from `begin` on; kNoBlock: see missing
  std::array<int32_t, kMaxCacheGroups> missing{};
  // All that is found is held before a block is allocated, which may be what another one holds.
  for (size_t g = 0; g < groups_.size(); ++g) {
    added[g].assign(end - begin, kNoBlock);
    for (int32_t i = std::max(begin, FirstNeeded(g, end * block_size_)); i < end; ++i) {
      const BlockId block = pools_[g].Find(seq.hashes[i]);
      if (block != kNoBlock) {
        pools_[g].Hold(block);
        added[g][i - begin] = block;
        continue;
      }
      const BlockId place = tier_.Find(g, seq.hashes[i]);
      CHECK(place != kNoBlock);
      tier_.Hold(g, place);
      imports.push_back({g, i, place});
      ++missing[g];
    }
  }
  bool has_room = true;
  for (size_t g = 0; g < groups_.size(); ++g) has_room &= missing[g] <= pools_[g].num_free();
  if (!has_room) {
    for (const PendingImport& import : imports) tier_.LetGo(import.group, import.place);
    for (size_t g = 0; g < groups_.size(); ++g) {
      for (size_t i = added[g].size(); i-- > 0;) {
        if (added[g][i] != kNoBlock) pools_[g].Release(added[g][i]);
      }
    }
    return false;
  }
  for (const PendingImport& import : imports)
    added[import.group][import.index - begin] = Allocate(import.group);
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = seq.tables[g];
    CHECK(static_cast<int32_t>(table.blocks.size()) <= begin);
    table.blocks.resize(begin, kNoBlock);
    table.blocks.insert(table.blocks.end(), added[g].begin(), added[g].end());
    PassBlocks(g, table, FirstNeeded(g, end * block_size_));
  }
  // By position, so that others find the beginning first; the next one last.
  std::stable_sort(imports.begin(), imports.end(),
                   [](const auto& a, const auto& b) { return a.index > b.index; });
  seq.imports = std::move(imports);
  seq.num_computed = end * block_size_;
  NoteImported(seq);
  return true;
}

/// Nobody waits any longer for the blocks that the sequence has by now.
void CacheTables::NoteImported(Sequence& seq) {
  const int32_t end =
      seq.imports.empty() ? seq.num_computed / block_size_ : seq.imports.back().index;
  for (; seq.num_registered < end; ++seq.num_registered)
    being_made_.erase(seq.hashes[seq.num_registered]);
}

CacheTables::ImportsLeft CacheTables::ImportsLeftOf(const Sequence& seq) const {
  ImportsLeft left;
  if (seq.imports.empty()) return left;
  left.num_positions = seq.num_computed - seq.imports.back().index * block_size_;
  for (const PendingImport& import : seq.imports) left.bytes += groups_[import.group].block_bytes;
  return left;
}

bool CacheTables::DropImports(Sequence& seq) {
  const bool windows = std::any_of(groups_.begin(), groups_.end(), [](const CacheGroup& group) {
    return group.retention == CacheRetention::kWindow;
  });
  if (windows) return false;
  const int32_t end = seq.imports.back().index;
  for (const PendingImport& import : seq.imports) tier_.LetGo(import.group, import.place);
  seq.imports.clear();
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<BlockId>& blocks = seq.tables[g].blocks;
    for (; static_cast<int32_t>(blocks.size()) > end; blocks.pop_back())
      pools_[g].Release(blocks.back());
  }
  seq.num_computed = end * block_size_;
  return true;
}

int64_t CacheTables::ImportNext(Sequence& seq) {
  const PendingImport import = seq.imports.back();
  seq.imports.pop_back();
  const BlockId block = seq.tables[import.group].blocks[import.index];
  tier_.Import(import.group, block, import.place);
  pools_[import.group].Register(block, seq.hashes[import.index]);
  NoteImported(seq);
  return groups_[import.group].block_bytes;
}

}  // namespace penstock
