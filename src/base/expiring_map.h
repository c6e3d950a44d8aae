// A map that forgets: entries live for a time, and the oldest go first where bytes run out.
// Owns its entries. Must not know what they are.
// Threads: value; whoever shares one locks.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <utility>

#include "absl/time/time.h"

namespace penstock {

template <class Key, class Value>
class ExpiringMap {
 public:
  ExpiringMap(size_t max_bytes, absl::Duration ttl) : max_bytes_(max_bytes), ttl_(ttl) {}
  /// Of what comes from now on; what is too much already goes.
  void SetBounds(size_t max_bytes, absl::Duration ttl) {
    max_bytes_ = max_bytes;
    ttl_ = ttl;
    while (bytes_ > max_bytes_) EraseOldest();
  }

  /// Replaces what was under `key`. An entry of more bytes than the whole map may have is not kept.
  void Put(const Key& key, Value value, size_t bytes, absl::Time now) {
    Erase(key);
    if (bytes > max_bytes_ || ttl_ <= absl::ZeroDuration()) return;
    const auto age = ages_.insert(ages_.end(), key);
    items_.emplace(key, Item{std::move(value), bytes, now + ttl_, age});
    bytes_ += bytes;
    while (bytes_ > max_bytes_) EraseOldest();
  }

  /// Null where there is none, or none any more. Valid until the next call.
  const Value* Find(const Key& key, absl::Time now) {
    while (!ages_.empty() && items_.at(ages_.front()).expires <= now) EraseOldest();
    const auto it = items_.find(key);
    const bool there = it != items_.end() && it->second.expires > now;
    return there ? &it->second.value : nullptr;
  }

  /// False where there was none.
  bool Erase(const Key& key) {
    const auto it = items_.find(key);
    if (it == items_.end()) return false;
    bytes_ -= it->second.bytes;
    ages_.erase(it->second.age);
    items_.erase(it);
    return true;
  }

  size_t bytes() const { return bytes_; }

 private:
  struct Item {
    Value value;
    size_t bytes = 0;
    absl::Time expires;
    typename std::list<Key>::iterator age;
  };

  void EraseOldest() { Erase(Key(ages_.front())); }

  size_t max_bytes_;
  absl::Duration ttl_;
  std::map<Key, Item> items_;
  std::list<Key> ages_;  // the oldest first
  size_t bytes_ = 0;
};

}  // namespace penstock
