// A set of byte strings with a number each, walked byte by byte.
// Owns the nodes. Must not know what the strings are.
// Threads: immutable after the last Insert.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace penstock {

class ByteTrie {
 public:
  static constexpr int32_t kRoot = 0;
  static constexpr int32_t kNone = -1;

  ByteTrie() : values_(1, kNone) { first_.fill(kNone); }

  /// `value` is 0 or more; the first value of a key stays. False where the key was there.
  bool Insert(std::string_view key, int32_t value);
  /// The node that `byte` leads to; kNone where there is none.
  int32_t Step(int32_t node, uint8_t byte) const {
    if (node == kRoot) return first_[byte];
    const auto it = edges_.find(Edge(node, byte));
    return it == edges_.end() ? kNone : it->second;
  }
  /// The value of the key that ends at `node`; kNone where none does.
  int32_t value(int32_t node) const { return values_[node]; }

  struct Match {
    int32_t value = kNone;  // kNone: no key is a start of the text
    size_t length = 0;
  };
  /// The longest key that `text` goes on with at `pos`, walking from `node`.
  Match Longest(std::string_view text, size_t pos, int32_t node = kRoot) const;

 private:
  static uint64_t Edge(int32_t node, uint8_t byte) {
    return static_cast<uint64_t>(static_cast<uint32_t>(node)) << 8 | byte;
  }

  std::array<int32_t, 256> first_;                // the edges of the root
  absl::flat_hash_map<uint64_t, int32_t> edges_;  // all others
  std::vector<int32_t> values_;                   // [nodes]
};

}  // namespace penstock
