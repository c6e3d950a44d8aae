// The merges that a text waits for, best rank first and from left to right within a rank.
// Linear in their number while what a merge leads to has a worse rank than it, as in any trained
// vocabulary: positions are gathered by rank, and only the ranks are ordered.
// Owns the waiting merges. Must not know tokens.
// Threads: an object per thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace penstock {

class MergeQueue {
 public:
  struct Entry {
    uint32_t rank;
    int32_t position;  // not negative
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  /// Fewer than 2^31 entries wait at any time.
  explicit MergeQueue(size_t expected) { links_.reserve(expected); }
  void Push(Entry entry);
  /// The least entry by rank, then by position; absent when none is left.
  std::optional<Entry> Pop();

 private:
  struct Link {
    int32_t position;
    int32_t next;  // index in links_; -1: the last of its rank
  };
  struct List {
    int32_t first;
    int32_t last;
  };
  struct IsWorse {
    bool operator()(const Entry& a, const Entry& b) const {
      return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
    }
  };
  bool StartRank();  // false where nothing waits

  std::vector<Link> links_;                    // as many as wait at one time
  int32_t free_ = -1;                          // the first of a list of those that no longer wait
  absl::flat_hash_map<uint32_t, List> lists_;  // by rank, all above rank_
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<uint32_t>> ranks_;  // of lists_
  int64_t rank_ = -1;             // the one in work
  std::vector<int32_t> in_work_;  // its positions in order
  size_t next_in_work_ = 0;
  std::priority_queue<Entry, std::vector<Entry>, IsWorse> late_;  // came at or after their turn
};

}  // namespace penstock
