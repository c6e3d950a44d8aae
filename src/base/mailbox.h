// A bounded queue from many threads to one, with a wait that a message ends.
// Owns the messages in it. Must not know the domain.
// Threads: thread-safe; one consumer.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace penstock {

template <class T>
class Mailbox {
 public:
  /// capacity 0: unbounded, for messages that must not be refused (cancels, shutdown) and are few
  /// by nature.
  explicit Mailbox(size_t capacity) : capacity_(capacity) {}

  /// False when full or closed; the message is then untouched.
  [[nodiscard]] bool TryPush(T& message) {
    {
      std::lock_guard lock(mutex_);
      if (closed_ || (capacity_ != 0 && items_.size() >= capacity_)) return false;
      items_.push_back(std::move(message));
    }
    ready_.notify_one();
    return true;
  }

  /// Everything queued, oldest first; does not wait.
  std::vector<T> TakeAll() {
    std::lock_guard lock(mutex_);
    std::vector<T> out(std::make_move_iterator(items_.begin()),
                       std::make_move_iterator(items_.end()));
    items_.clear();
    return out;
  }

  /// Waits until a message is there or the mailbox is closed.
  void Wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return closed_ || !items_.empty(); });
  }

  /// As Wait, at most until the steady-clock time `until`.
  template <class TimePoint>
  void WaitUntil(TimePoint until) {
    std::unique_lock lock(mutex_);
    ready_.wait_until(lock, until, [&] { return closed_ || !items_.empty(); });
  }

  void Close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace penstock
