// Tells the supervisor that the process lives, while its main thread waits for requests to end.
// Owns the thread. Must not know servers: what never ends is the supervisor's own limit for a stop.
// Threads: made and destroyed by one thread.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

namespace penstock {

/// Says WATCHDOG=1 as often as $WATCHDOG_USEC demands until it is destroyed; no thread where no
/// watchdog waits.
class WatchdogLoop {
 public:
  WatchdogLoop();
  ~WatchdogLoop();
  WatchdogLoop(const WatchdogLoop&) = delete;

 private:
  void Run();

  std::mutex mutex_;  // guards the next
  bool ended_ = false;
  std::condition_variable end_;
  std::thread thread_;
};

}  // namespace penstock
