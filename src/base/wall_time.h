// What a reading of the engines' clock is for people and other machines.
// Owns nothing. Must not know the domain.
// Threads: thread-safe.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"

namespace penstock {

/// The time of day of `reading`, of `clock`. Clock runs on as it began where the time of day is set anew; the epoch, of
/// what has never been, stays.
inline absl::Time WallTime(const Clock& clock, absl::Time reading) {
  if (reading <= absl::UnixEpoch()) return absl::UnixEpoch();
  return absl::Now() - (clock.Now() - reading);
}

}  // namespace penstock
