#include "service/fallback_call.h"

#include <utility>

#include "service/call_error.h"

namespace penstock {

absl::Status FallbackCall::Start() {
  bool may_retry = false;
  const absl::Status status = Try("", &may_retry);
  return status.ok() || !may_retry ? status : TryFrom(status);
}

absl::Status FallbackCall::Try(const std::string& model, bool* may_retry) {
  answering_ = model;
  size_t attempt;
  bool last;
  {
    const std::lock_guard lock(mutex_);
    attempt = ++attempt_;
    last = next_ >= models_.size();
  }
  auto started = start_(model, shared_from_this(), last, may_retry);
  if (!started.ok()) return started.status();
  std::optional<CancelReason> cancelled;
  {
    const std::lock_guard lock(mutex_);
    if (attempt != attempt_) return absl::OkStatus();  // it has ended already
    running_ = *started;
    cancelled = cancelled_;
  }
  if (cancelled) (*started)->Cancel(*cancelled);
  return absl::OkStatus();
}

/// The first of the models left that takes the call; `first` where none does.
absl::Status FallbackCall::TryFrom(absl::Status first) {
  while (true) {
    std::string model;
    {
      const std::lock_guard lock(mutex_);
      if (next_ >= models_.size() || cancelled_) return first;
      model = models_[next_++];
    }
    bool may_retry = false;
    if (Try(model, &may_retry).ok()) return absl::OkStatus();
  }
}

void FallbackCall::Cancel(CancelReason reason) {
  std::shared_ptr<RunningCall> running;
  {
    const std::lock_guard lock(mutex_);
    if (!cancelled_) cancelled_ = reason;
    running = running_;
  }
  if (running != nullptr) running->Cancel(reason);
}

void FallbackCall::Resume() {
  std::shared_ptr<RunningCall> running;
  {
    const std::lock_guard lock(mutex_);
    running = running_;
  }
  if (running != nullptr) running->Resume();
}

void FallbackCall::OnStart(ResponseStart start) {
  if (!answering_.empty()) start.headers.emplace_back("x-model-fallback", answering_);
  start_of_answer_ = std::move(start);
}

void FallbackCall::Release() {
  if (start_of_answer_) sink_->OnStart(*std::exchange(start_of_answer_, std::nullopt));
}

void FallbackCall::OnDeltas(absl::Span<Delta> deltas) {
  Release();
  sink_->OnDeltas(deltas);
}

void FallbackCall::OnEnd(const ResponseEnd& end) {
  const bool broken = end.error && IsServerFailure(*end.error);
  bool retry;
  {
    const std::lock_guard lock(mutex_);
    retry = broken && start_of_answer_ && !cancelled_ && next_ < models_.size();
    running_.reset();
    ++attempt_;
  }
  if (retry) {
    const auto again = [self = shared_from_this(), end] {
      const absl::Status status = self->TryFrom(absl::UnknownError("none is left"));
      if (status.ok()) return;
      self->Release();
      self->sink_->OnEnd(end);
    };
    if (loop_->TryCall(again)) return;
  }
  Release();
  sink_->OnEnd(end);
}

}  // namespace penstock
