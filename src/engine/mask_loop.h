// The thread that makes masks beside the engine's: asked once a step, it makes what is offered until
// nothing is left, and sleeps.
// Owns the thread; borrows the tasks. Must not know the scheduler.
// Threads: Wake is called by one thread; the destructor waits for a mask that is being made.
#pragma once

#include <atomic>
#include <thread>

#include "base/thread_name.h"
#include "engine/mask_task.h"

namespace penstock {

class MaskLoop {
 public:
  explicit MaskLoop(MaskTasks* tasks) : tasks_(tasks), thread_([this] { Run(); }) {}
  ~MaskLoop() {
    stopping_ = true;
    Wake();
  }
  MaskLoop(const MaskLoop&) = delete;
  MaskLoop& operator=(const MaskLoop&) = delete;

  void Wake() {
    calls_.fetch_add(1, std::memory_order_release);
    calls_.notify_one();
  }

 private:
  void Run() {
    NameThread("masks");
    for (;;) {
      const int seen = calls_.load(std::memory_order_acquire);
      if (stopping_) return;
      tasks_->MakeAll();
      calls_.wait(seen, std::memory_order_acquire);
    }
  }

  MaskTasks* const tasks_;
  std::atomic<int> calls_{0};
  std::atomic<bool> stopping_{false};
  std::jthread thread_;  // joins before the rest goes
};

}  // namespace penstock
