// The worker threads of Talk: JSON, templates, tokenizing, detokenizing, formatting.
// Owns its threads and the queue of what is ready to run. Must not know what the tasks do.
// Threads: thread-safe.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cpu_parts.h"

namespace penstock {

/// Something that becomes ready again and again: a stream with new tokens.
class TextTask {
 public:
  virtual ~TextTask() = default;
  virtual void Run() = 0;
};

class TextLoop {
 public:
  /// `max_calls`: calls that may wait; 0 threads: as many as there are processors, at least two.
  /// `parts` (may be null) learns what the threads spend on answers and on what calls say of
  /// themselves; it outlives the loop.
  TextLoop(int num_threads, size_t max_calls, CpuParts* parts = nullptr);
  ~TextLoop();
  TextLoop(const TextLoop&) = delete;
  TextLoop& operator=(const TextLoop&) = delete;

  /// Queues a new call's work, long perhaps. False when too many wait: the caller answers
  /// RESOURCE_EXHAUSTED.
  [[nodiscard]] bool TryCall(std::function<void()> call);
  /// Queues a task; tasks go before calls, and one worker is kept free of calls where there are
  /// several. The owner schedules a task again only after it ran, so the queue is as long as there
  /// are live streams. Cheap: meant for engine threads.
  void Schedule(std::shared_ptr<TextTask> task);
  /// A call that waits for others, not for a processor: while this lives another thread works in the
  /// worker's place, so that those who wait stop nobody else. Outside of calls it does nothing.
  class Wait {
   public:
    explicit Wait(TextLoop& loop) : loop_(loop), granted_(loop.BeginWait()) {}
    ~Wait() {
      if (granted_) loop_.EndWait();
    }
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;
    /// False where kMaxWaits wait already, or no thread is to be had: this one does without.
    bool granted() const { return granted_; }

   private:
    TextLoop& loop_;
    const bool granted_;
  };
  static constexpr size_t kMaxWaits = 64;
  /// Runs what is queued, then ends the threads; later work is dropped.
  void Stop();

 private:
  void Work();
  bool BeginWait();
  void EndWait();
  bool MayRunTask() const;  // under mutex_, as is the next
  bool MayRunCall() const;

  const size_t num_threads_;
  const size_t max_calls_;
  CpuParts* const parts_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::shared_ptr<TextTask>> tasks_;
  std::deque<std::function<void()>> calls_;
  size_t running_ = 0;     // workers that do something and do not wait
  size_t busy_calls_ = 0;  // of them, those that run a call
  size_t waiting_ = 0;     // workers in a Wait, each with a thread in its place
  size_t max_busy_calls_ = 1;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace penstock
