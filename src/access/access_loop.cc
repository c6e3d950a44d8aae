#include "access/access_loop.h"

#include <chrono>
#include <utility>

#include "base/thread_name.h"

namespace penstock {

namespace {
constexpr auto kPeriod = std::chrono::milliseconds(250);
}

AccessLoop::~AccessLoop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void AccessLoop::Start() {
  for (const auto& check : checks_) check();
  if (!checks_.empty()) thread_ = std::thread([this] { Run(); });
}

void AccessLoop::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void AccessLoop::Run() {
  NameThread("access");
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    changed_.wait_for(lock, kPeriod, [this] { return stopped_ || woken_; });
    woken_ = false;
    if (stopped_) return;
    lock.unlock();
    for (const auto& check : checks_) check();
    lock.lock();
  }
}

}  // namespace penstock
