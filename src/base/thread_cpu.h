// The time that a thread itself has computed, which neighbours on the machine do not lengthen.
// Owns nothing. Must not know the domain.
// Threads: of the calling one.
#pragma once

#include <ctime>

#include "absl/time/time.h"

namespace penstock {

inline absl::Duration ThreadCpuTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

}  // namespace penstock
