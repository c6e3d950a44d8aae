// A value that many read and one replaces: readers keep the one they began with.
// Owns the present value. Must not know what it is.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace penstock {

template <class T>
class Live {
 public:
  explicit Live(T value) : value_(std::make_shared<const T>(std::move(value))) {}

  std::shared_ptr<const T> Get() const {
    std::lock_guard lock(mutex_);
    return value_;
  }
  void Set(T value) {
    auto fresh = std::make_shared<const T>(std::move(value));
    std::lock_guard lock(mutex_);
    value_.swap(fresh);  // the old one is destroyed outside the lock, if nobody reads it any more
  }

 private:
  mutable std::mutex mutex_;  // guards value_
  std::shared_ptr<const T> value_;
};

}  // namespace penstock
