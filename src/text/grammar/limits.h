// What is bounded of the ways to read a text, and the memory that all of them share.
// Owns a count of bytes. Must not know grammars or who counts.
// Threads: WayMemory is thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace penstock::grammar {

enum class Limit : uint8_t {
  kNone,
  kWork,    // of one token or mask
  kWays,    // at one place of the text
  kStacks,  // rules, and turns of loops, that are open
  kMemory,  // of all matchers together
};

/// What a client is told of a text that has passed `limit`: which one, and what would help.
absl::Status PastLimit(Limit limit);

/// Bytes of all matchers of a model. Each has the first kOwn of its bytes whatever others take.
class WayMemory {
 public:
  static constexpr int64_t kOwn = int64_t{512} << 10;
  static constexpr int64_t kMost = int64_t{128} << 20;

  explicit WayMemory(int64_t most = kMost) : most_(most) {}

  /// Of one matcher that has told `from` bytes; false, and nothing changes: there is no room for `to`.
  bool Resize(int64_t from, int64_t to);
  /// Beyond what each has of its own.
  int64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const int64_t most_;
  std::atomic<int64_t> used_{0};
};

}  // namespace penstock::grammar
