// Whole masks by where a grammar stands, for all who stand there again: a string goes on for many
// tokens, and requests share schemas.
// Owns the masks (bounded in bytes). Must not know grammars: who asks makes the key.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock::grammar {

class MaskMemo {
 public:
  using Key = std::vector<int32_t>;
  static constexpr size_t kMaxKey =
      512;  // longer ones are deep in a recursion and rarely met again

  explicit MaskMemo(size_t max_bytes) : max_bytes_(max_bytes) {}

  /// Overwrites `words` by the mask of `key`; false, and nothing changes: there is none.
  bool Get(const Key& key, absl::Span<uint32_t> words) const;
  /// Keeps it from the second time on that a key comes: most come once.
  void Put(const Key& key, absl::Span<const uint32_t> words);
  size_t bytes() const;

 private:
  struct Mask {
    std::vector<uint32_t> words;
    std::vector<TokenId> ids;  // instead, where they are few
  };

  const size_t max_bytes_;
  mutable std::mutex mutex_;
  absl::flat_hash_map<Key, std::shared_ptr<const Mask>> masks_;
  absl::flat_hash_set<size_t> seen_;  // hashes of keys
  size_t bytes_ = 0;
};

}  // namespace penstock::grammar
