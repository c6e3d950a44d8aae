// Looks four times a second whether files have changed: those that access depends on (state file,
// token keys, certificates), or aliases.
// Owns its thread and the checks. Must not know what a check looks at.
// Threads: Add before Start; Wake is thread-safe; checks run on the loop's thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace penstock {

class AccessLoop {
 public:
  ~AccessLoop();
  void Add(std::function<void()> check) { checks_.push_back(std::move(check)); }
  /// Runs every check once before it returns.
  void Start();
  /// Checks at once.
  void Wake();

 private:
  void Run();

  std::vector<std::function<void()>> checks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false, woken_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace penstock
