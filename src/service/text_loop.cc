#include "service/text_loop.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/thread_name.h"

namespace penstock {
namespace {

thread_local const TextLoop* loop_of_call = nullptr;  // that runs a call on this thread

}  // namespace

TextLoop::TextLoop(int num_threads, size_t max_calls, CpuParts* parts)
    : num_threads_(num_threads > 0 ? num_threads
                                   : std::max(2u, std::thread::hardware_concurrency())),
      max_calls_(max_calls),
      parts_(parts),
      max_busy_calls_(std::max<size_t>(1, num_threads_ - 1)) {
  threads_.reserve(num_threads_ + kMaxWaits);
  for (size_t i = 0; i < num_threads_; ++i) threads_.emplace_back([this] { Work(); });
}

TextLoop::~TextLoop() { Stop(); }

bool TextLoop::TryCall(std::function<void()> call) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || calls_.size() >= max_calls_) return false;
    calls_.push_back(std::move(call));
  }
  ready_.notify_one();
  return true;
}

void TextLoop::Schedule(std::shared_ptr<TextTask> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ && threads_.empty()) return;
    tasks_.push_back(std::move(task));
  }
  ready_.notify_one();
}

/// Where calls have come back from waiting more run than there should; tasks have one even then.
bool TextLoop::MayRunTask() const {
  return !tasks_.empty() && (running_ < num_threads_ || running_ == busy_calls_);
}

bool TextLoop::MayRunCall() const { return !calls_.empty() && busy_calls_ < max_busy_calls_; }

bool TextLoop::BeginWait() {
  if (loop_of_call != this) return true;
  const std::lock_guard lock(mutex_);
  if (waiting_ >= kMaxWaits) return false;
  if (!stopping_ && threads_.size() <= num_threads_ + waiting_) {
    try {
      threads_.emplace_back([this] { Work(); });
    } catch (const std::system_error&) {  // the machine gives no more threads
      return false;
    }
  }
  ++waiting_;
  --running_;
  --busy_calls_;
  ready_.notify_one();
  return true;
}

void TextLoop::EndWait() {
  if (loop_of_call != this) return;
  const std::lock_guard lock(mutex_);
  --waiting_;
  ++running_;
  ++busy_calls_;
}

void TextLoop::Work() {
  NameThread("text");
  const CpuParts::Thread counted(parts_, FrontPart::kAnswers);
  std::unique_lock lock(mutex_);
  while (true) {
    ready_.wait(lock, [this] { return MayRunTask() || MayRunCall() || stopping_; });
    if (MayRunTask()) {
      std::shared_ptr<TextTask> task = std::move(tasks_.front());
      tasks_.pop_front();
      ++running_;
      lock.unlock();
      task->Run();
      task.reset();
      lock.lock();
      --running_;
    } else if (MayRunCall()) {
      std::function<void()> call = std::move(calls_.front());
      calls_.pop_front();
      ++running_;
      ++busy_calls_;
      lock.unlock();
      {
        const CpuPart part(FrontPart::kRequests);
        loop_of_call = this;
        call();
        call = nullptr;
        loop_of_call = nullptr;
      }
      lock.lock();
      --running_;
      --busy_calls_;
      if (!calls_.empty()) ready_.notify_one();
    } else {
      return;  // stopping, and nothing is left that this worker may do
    }
  }
}

void TextLoop::Stop() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  ready_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace penstock
