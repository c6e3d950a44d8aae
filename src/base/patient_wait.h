// Waits that spin for a moment, and waits whose patience is spent only while the machine runs. None
// takes a lock, so that a thread that stands still anywhere never keeps another one from giving up.
// Owns nothing. Must not know who is waited for.
// Threads: thread-safe.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <ctime>

#include "absl/time/time.h"

namespace penstock {

/// Rung when something has changed that others may wait for. A wait looks at what it waits for
/// between Now and AwaitRing, and so misses nothing. (counting_semaphore of g++ 12 may.)
class Bell {
 public:
  uint32_t Now() const { return rings_.load(); }
  void Ring() {
    rings_.fetch_add(1);
    if (num_asleep_.load() > 0) Futex(FUTEX_WAKE_PRIVATE, INT_MAX, nullptr);
  }
  /// Until it has been rung since `now`, for `time` at most; may return sooner.
  void AwaitRing(uint32_t now, std::chrono::nanoseconds time) {
    const timespec limit{time.count() / 1'000'000'000, time.count() % 1'000'000'000};
    num_asleep_.fetch_add(1);
    Futex(FUTEX_WAIT_PRIVATE, now, &limit);
    num_asleep_.fetch_sub(1);
  }

 private:
  void Futex(int what, uint32_t value, const timespec* limit) {
    static_assert(sizeof rings_ == sizeof(uint32_t));
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&rings_), what, value, limit, nullptr, 0);
  }

  std::atomic<uint32_t> rings_{0};
  std::atomic<int32_t> num_asleep_{0};
};

inline constexpr std::chrono::milliseconds kWaitPiece{20};

/// Whether `done()` came true within `time`.
template <class Done>
bool SpinFor(std::chrono::nanoseconds time, const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      __builtin_ia32_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

/// Until `done()`, which `bell` is rung for.
template <class Done>
void WaitFor(Bell& bell, const Done& done) {
  for (uint32_t now = bell.Now(); !done(); now = bell.Now())
    bell.AwaitRing(now, std::chrono::seconds(1));
}

/// Whether `done()` came true before `patience` was spent. It is spent in short pieces, so that a
/// process or a machine that was stopped for minutes has lost one of them.
template <class Done>
bool WaitPatiently(Bell& bell, absl::Duration patience, const Done& done) {
  auto left = absl::ToChronoNanoseconds(patience);
  for (uint32_t now = bell.Now(); !done(); now = bell.Now()) {
    if (left.count() <= 0) return false;
    const auto begin = std::chrono::steady_clock::now();
    bell.AwaitRing(now, std::min<std::chrono::nanoseconds>(left, kWaitPiece));
    const std::chrono::nanoseconds taken = std::chrono::steady_clock::now() - begin;
    left -= std::min<std::chrono::nanoseconds>(taken, 2 * kWaitPiece);
  }
  return true;
}

}  // namespace penstock
