// Chained hashes of full blocks: equal hash means equal tokens from position 0, equal salt, adapter
// and model.
// Owns its key. Must not know blocks or sequences.
// Threads: immutable.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "base/siphash.h"
#include "penstock/types.h"

namespace penstock {

class PrefixHasher {
 public:
  /// `key` is secret and random per process, so that nobody can craft a prompt that collides with
  /// another's.
  PrefixHasher(std::array<uint64_t, 2> key, std::string_view model_digest);
  static std::array<uint64_t, 2> RandomKey();

  /// Where a chain starts.
  Hash128 Root(std::string_view salt, AdapterId adapter) const;
  /// The hash of the block that holds `tokens` [block_size] and follows the block `parent`.
  Hash128 Next(const Hash128& parent, absl::Span<const TokenId> tokens) const;

 private:
  std::array<uint64_t, 2> key_;
  Hash128 model_;
};

}  // namespace penstock
