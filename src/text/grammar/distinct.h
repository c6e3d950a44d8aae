// Values in the order in which they came, each once: fast for a few, and for many.
// Owns the values. Must not know what they are.
// Threads: confined to one thread at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace penstock::grammar {

template <typename T>
class Distinct {
 public:
  /// Its index, and whether it is new.
  std::pair<size_t, bool> Add(const T& value) {
    const size_t size = values_.size();
    if (size < kFew) {
      const auto found = std::find(values_.begin(), values_.end(), value);
      if (found != values_.end()) return {found - values_.begin(), false};
    } else {
      for (size_t i = index_.size(); i < size; ++i) index_.emplace(values_[i], i);
      const auto [found, added] = index_.try_emplace(value, size);
      if (!added) return {found->second, false};
    }
    values_.push_back(value);
    return {size, true};
  }
  const std::vector<T>& values() const { return values_; }
  size_t size() const { return values_.size(); }
  void clear() {
    values_.clear();
    if (!index_.empty()) index_.clear();
  }
  size_t bytes() const {
    return values_.capacity() * sizeof(T) + index_.capacity() * (sizeof(T) + sizeof(size_t) + 1);
  }

 private:
  static constexpr size_t kFew = 16;
  std::vector<T> values_;
  absl::flat_hash_map<T, size_t> index_;  // of all, where they are more than a few
};

}  // namespace penstock::grammar
