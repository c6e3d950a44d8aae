// Time that only goes forward, replaceable in tests.
// Owns nothing. Must not know the domain.
// Threads: thread-safe.
#pragma once

#include <chrono>
#include <mutex>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace penstock {

/// Readings are absl::Time so that they subtract to durations; they follow the monotonic clock, not
/// wall-clock steps.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override {
    return start_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
  }
  /// The process-wide instance; deadlines made by Talk and checked by Decide come from this one.
  static const SystemClock& Get() {
    static const SystemClock clock;
    return clock;
  }

 private:
  absl::Time start_ = absl::Now();
  std::chrono::steady_clock::time_point steady_start_ = std::chrono::steady_clock::now();
};

/// A clock that a test moves by hand.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    std::lock_guard lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration d) {
    std::lock_guard lock(mutex_);
    now_ += d;
  }

 private:
  mutable std::mutex mutex_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

}  // namespace penstock
