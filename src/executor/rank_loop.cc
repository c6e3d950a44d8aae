#include "executor/rank_loop.h"

#include <utility>

#include "base/thread_name.h"

namespace penstock {

RankLoop::RankLoop(ModelRunner* runner, const WorkerPool* pool)
    : runner_(runner), thread_([this, pool] {
        if (pool != nullptr) pool->PlaceCaller();
        Run();
      }) {}

RankLoop::~RankLoop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

void RankLoop::Launch(StepPlan plan) {
  {
    std::lock_guard lock(mutex_);
    steps_.emplace_back().plan = std::move(plan);
  }
  changed_.notify_all();
}

void RankLoop::Sample(std::vector<OwnedMask> masks) {
  {
    std::lock_guard lock(mutex_);
    steps_[num_sampled_++].masks = std::move(masks);
  }
  changed_.notify_all();
}

absl::StatusOr<StepResult> RankLoop::Collect() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return num_computed_ > 0; });
  absl::StatusOr<StepResult> result = *std::move(steps_.front().result);
  steps_.pop_front();
  --num_sampled_;
  --num_computed_;
  return result;
}

void RankLoop::Run() {
  NameThread("step");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || steps_.size() > num_computed_; });
    if (stopping_) return;
    Step& step = steps_[num_computed_];
    lock.unlock();
    const absl::Status forward = runner_->Forward(step.plan);
    lock.lock();
    changed_.wait(lock, [&] { return stopping_ || step.masks.has_value(); });
    if (stopping_) return;
    lock.unlock();
    absl::StatusOr<StepResult> result = forward.ok() ? runner_->Sample(*step.masks) : forward;
    lock.lock();
    step.result = std::move(result);
    ++num_computed_;
    changed_.notify_all();
  }
}

}  // namespace penstock
