#include "engine/cache_tier.h"

#include <algorithm>
#include <optional>

namespace penstock {

CacheTier::CacheTier(const std::vector<CacheGroup>& groups) {
  for (const CacheGroup& group : groups) {
    block_bytes_.push_back(group.block_bytes);
    places_.emplace_back(group.tier_blocks);
  }
  on_ = !groups.empty() && std::all_of(groups.begin(), groups.end(), [](const CacheGroup& group) {
    return group.tier_blocks > 0;
  });
}

void CacheTier::Export(size_t group, BlockId block, const Hash128& hash) {
  BlockPool& places = places_[group];
  if (const BlockId place = places.Find(hash); place != kNoBlock) {
    places.Hold(place);  // used now
    places.Release(place);
    return;
  }
  const bool evicts = places.NextForgotten() != nullptr;
  const std::optional<BlockId> place = may_export_ ? places.Allocate() : std::nullopt;
  if (!place) {
    ++num_lost_;
    return;
  }
  places.Register(*place, hash);
  places.Release(*place);
  moves_.push_back({static_cast<int32_t>(group), block, *place, /*to_block=*/false});
  num_evicted_ += evicts ? 1 : 0;
  ++num_exported_;
  exported_bytes_ += block_bytes_[group];
}

void CacheTier::Import(size_t group, BlockId block, BlockId place) {
  moves_.push_back({static_cast<int32_t>(group), block, place, /*to_block=*/true});
  places_[group].Release(place);
  ++num_imported_;
  imported_bytes_ += block_bytes_[group];
}

void CacheTier::ForgetAll() {
  for (BlockPool& places : places_) places.ForgetAll();
}

int32_t CacheTier::num_places() const {
  int32_t count = 0;
  for (const BlockPool& places : places_) count += places.num_blocks();
  return count;
}

int32_t CacheTier::num_used() const {
  int32_t count = 0;
  for (const BlockPool& places : places_) count += places.num_cached();
  return count;
}

int32_t CacheTier::num_held() const {
  int32_t count = 0;
  for (const BlockPool& places : places_) count += places.num_held();
  return count;
}

}  // namespace penstock
