// Waits that spin for a moment, and waits whose patience is spent only while the machine runs.
// Owns nothing. Must not know who is waited for.
// Threads: called by who waits.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"

namespace penstock {

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

/// Whether `done()` came true before `patience` was spent. It is spent in short pieces, so that a
/// process or a machine that was stopped for minutes has lost one of them.
template <class Done>
bool WaitPatiently(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                   absl::Duration patience, const Done& done) {
  constexpr auto kPiece = std::chrono::milliseconds(20);
  auto left = absl::ToChronoNanoseconds(patience);
  while (!done()) {
    if (left.count() <= 0) return false;
    const auto begin = std::chrono::steady_clock::now();
    changed.wait_for(lock, std::min<std::chrono::nanoseconds>(left, kPiece));
    const std::chrono::nanoseconds taken = std::chrono::steady_clock::now() - begin;
    left -= std::min<std::chrono::nanoseconds>(taken, 2 * kPiece);
  }
  return true;
}

}  // namespace penstock
