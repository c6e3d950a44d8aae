#include "server/watchdog_loop.h"

#include "absl/time/time.h"
#include "server/supervisor.h"

namespace penstock {

WatchdogLoop::WatchdogLoop() {
  if (WatchdogPeriod() < absl::InfiniteDuration()) thread_ = std::thread([this] { Run(); });
}

WatchdogLoop::~WatchdogLoop() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  end_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void WatchdogLoop::Run() {
  const auto period = absl::ToChronoMilliseconds(WatchdogPeriod());
  std::unique_lock lock(mutex_);
  while (!ended_) {
    NotifySupervisor("WATCHDOG=1");
    end_.wait_for(lock, period, [this] { return ended_; });
  }
}

}  // namespace penstock
