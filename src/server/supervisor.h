// What is said to the process that supervises this one (systemd's protocol).
// Owns nothing. Must not know models.
// Threads: thread-safe.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace penstock {

/// Lines such as READY=1, STOPPING=1, WATCHDOG=1 or STATUS=text to $NOTIFY_SOCKET; nothing where
/// there is none.
void NotifySupervisor(const std::string& lines);

/// Half of what $WATCHDOG_USEC demands; infinite where no watchdog waits.
absl::Duration WatchdogPeriod();

}  // namespace penstock
