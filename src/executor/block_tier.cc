#include "executor/block_tier.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<BlockTier>> BlockTier::Make(const BlockTierOptions& options,
                                                           const KvCache* cache, Device* device,
                                                           std::vector<CacheGroup>& groups) {
  std::unique_ptr<BlockTier> tier(new BlockTier(cache, device));
  int64_t cache_bytes = 0;
  for (const CacheGroup& group : groups) cache_bytes += group.num_blocks * group.block_bytes;
  int64_t bytes = 0;
  int64_t largest = 0;
  for (CacheGroup& group : groups) {
    const double blocks = static_cast<double>(options.bytes) / static_cast<double>(cache_bytes) *
                          static_cast<double>(group.num_blocks);
    group.tier_blocks = static_cast<int32_t>(std::min(blocks, 1e9));  // never above the budget
    if (group.tier_blocks == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "engine.kv_offload is ", options.bytes, " bytes, expected at least ",
          static_cast<int64_t>(static_cast<double>(cache_bytes) / group.num_blocks) + 1,
          ": a block of each group of layers"));
    }
    tier->groups_.push_back({bytes, group.block_bytes, group.tier_blocks, group.num_blocks});
    bytes += group.tier_blocks * group.block_bytes;
    largest = std::max(largest, group.block_bytes);
  }
  if (options.folder.empty()) {
    ASSIGN_OR_RETURN(tier->memory_, device->AllocateHost(bytes));
  } else {
    ASSIGN_OR_RETURN(tier->file_, TierFile::Make(options.folder, bytes));
    tier->record_.resize(largest);
  }
  if (!device->shares_host_memory()) {
    ASSIGN_OR_RETURN(tier->staged_, device->Allocate(largest));
  }
  return tier;
}

absl::Status BlockTier::Check(const BlockMove& move) const {
  const auto exists = [&] {
    if (move.group < 0 || move.group >= static_cast<int32_t>(groups_.size())) return false;
    const Places& places = groups_[move.group];
    return move.block >= 0 && move.block < places.num_blocks && move.place >= 0 &&
           move.place < places.num_places;
  };
  if (exists()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("broken plan: a copy between block ", move.block,
                                                 " and place ", move.place, " of group ",
                                                 move.group, ", which do not exist"));
}

int64_t BlockTier::OffsetOf(const BlockMove& move) const {
  const Places& places = groups_[move.group];
  return places.begin + move.place * places.block_bytes;
}

absl::Status BlockTier::Export(const BlockMove& move) {
  const int64_t bytes = groups_[move.group].block_bytes;
  std::byte* host =
      file_ != nullptr ? record_.data() : static_cast<std::byte*>(memory_.data()) + OffsetOf(move);
  if (staged_.data() == nullptr) {
    cache_.ExportBlock(move.group, move.block, host, device_);
  } else {
    cache_.ExportBlock(move.group, move.block, staged_.data(), device_);
    device_.CopyToHost(host, staged_.data(), bytes);
  }
  return file_ != nullptr ? file_->Write(OffsetOf(move), host, bytes) : absl::OkStatus();
}

absl::Status BlockTier::Import(const BlockMove& move) {
  const int64_t bytes = groups_[move.group].block_bytes;
  std::byte* host =
      file_ != nullptr ? record_.data() : static_cast<std::byte*>(memory_.data()) + OffsetOf(move);
  if (file_ != nullptr) RETURN_IF_ERROR(file_->Read(OffsetOf(move), host, bytes));
  if (staged_.data() == nullptr) {
    cache_.ImportBlock(move.group, move.block, host, device_);
  } else {
    device_.CopyToDevice(staged_.data(), host, bytes);
    cache_.ImportBlock(move.group, move.block, staged_.data(), device_);
  }
  return absl::OkStatus();
}

absl::Status BlockTier::Run(absl::Span<const BlockMove> moves, Times& times) {
  for (const BlockMove& move : moves) RETURN_IF_ERROR(Check(move));
  for (size_t i = 0; i < moves.size();) {
    const bool to_blocks = moves[i].to_block;
    const auto begin = std::chrono::steady_clock::now();
    size_t end = i;  // of those alike
    for (; end < moves.size() && moves[end].to_block == to_blocks; ++end) {
      if (to_blocks && file_ != nullptr)
        file_->WillRead(OffsetOf(moves[end]), groups_[moves[end].group].block_bytes);
    }
    for (; i < end; ++i) RETURN_IF_ERROR(to_blocks ? Import(moves[i]) : Export(moves[i]));
    RETURN_IF_ERROR(device_.Synchronize());
    (to_blocks ? times.importing : times.exporting) +=
        absl::FromChrono(std::chrono::steady_clock::now() - begin);
  }
  return absl::OkStatus();
}

}  // namespace penstock
