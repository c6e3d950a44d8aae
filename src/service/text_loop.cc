#include "service/text_loop.h"

#include <algorithm>
#include <utility>

namespace penstock {

TextLoop::TextLoop(int num_threads, size_t max_calls, CpuParts* parts)
    : max_calls_(max_calls), parts_(parts) {
  if (num_threads <= 0) num_threads = std::max(2u, std::thread::hardware_concurrency());
  max_busy_calls_ = std::max(1, num_threads - 1);
  threads_.reserve(num_threads);
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
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

void TextLoop::Work() {
  const CpuParts::Thread counted(parts_, FrontPart::kAnswers);
  std::unique_lock lock(mutex_);
  while (true) {
    const auto may_call = [this] { return !calls_.empty() && busy_calls_ < max_busy_calls_; };
    ready_.wait(lock, [&] { return !tasks_.empty() || may_call() || stopping_; });
    if (!tasks_.empty()) {
      std::shared_ptr<TextTask> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task->Run();
      task.reset();
      lock.lock();
    } else if (may_call()) {
      std::function<void()> call = std::move(calls_.front());
      calls_.pop_front();
      ++busy_calls_;
      lock.unlock();
      {
        const CpuPart part(FrontPart::kRequests);
        call();
        call = nullptr;
      }
      lock.lock();
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
