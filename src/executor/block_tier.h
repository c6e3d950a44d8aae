// The second tier of the KV cache: room in the host's memory or on a disk for copies of blocks, each
// group's places one after the other.
// Owns that room; borrows the cache and its device. Must not know which prefix a block holds.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "executor/kv_cache.h"
#include "executor/tier_file.h"
#include "penstock/backend.h"
#include "penstock/executor.h"

namespace penstock {

struct BlockTierOptions {
  int64_t bytes = 0;   // 0: there is none
  std::string folder;  // on whose disk it lies; empty: in the host's memory
};

class BlockTier {
 public:
  /// Shares options.bytes among the groups as the cache's own are, and says in `groups`, which are
  /// the cache's, how many blocks that makes. INVALID_ARGUMENT where a group gets none; else errors
  /// as TierFile's and the device's.
  static absl::StatusOr<std::unique_ptr<BlockTier>> Make(const BlockTierOptions& options,
                                                         const KvCache* cache, Device* device,
                                                         std::vector<CacheGroup>& groups);

  /// What copies took.
  struct Times {
    absl::Duration importing;  // to blocks
    absl::Duration exporting;  // to the tier
  };
  /// Makes copies in their order. INVALID_ARGUMENT: a broken plan.
  absl::Status Run(absl::Span<const BlockMove> moves, Times& times);

 private:
  struct Places {
    int64_t begin = 0;  // of the first one, in bytes
    int64_t block_bytes = 0;
    int32_t num_places = 0;
    int32_t num_blocks = 0;  // of the cache
  };

  BlockTier(const KvCache* cache, Device* device) : cache_(*cache), device_(*device) {}
  absl::Status Check(const BlockMove& move) const;
  int64_t OffsetOf(const BlockMove& move) const;
  absl::Status Export(const BlockMove& move);
  absl::Status Import(const BlockMove& move);

  const KvCache& cache_;
  Device& device_;
  std::vector<Places> groups_;
  DeviceBuffer memory_;             // the host's; empty: there is a file
  std::unique_ptr<TierFile> file_;  // null: there is memory
  std::vector<std::byte> record_;   // a block on its way from or to the file
  DeviceBuffer staged_;  // likewise, on a device with a memory of its own; empty: it has none
};

}  // namespace penstock
