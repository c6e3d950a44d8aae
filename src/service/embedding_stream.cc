#include "service/embedding_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"
#include "service/end_metrics.h"

namespace penstock {
namespace {

constexpr size_t kMaxLive = 256;  // inputs of one call that the engine has at a time

double SumOfSquares(const std::vector<float>& vector) {
  double sum = 0;
  for (const float v : vector) sum += double{v} * v;
  return sum;
}

}  // namespace

// Keeps the stream alive until its OnDone.
class EmbeddingStream::InputSink final : public TokenSink {
 public:
  InputSink(std::shared_ptr<EmbeddingStream> stream, size_t index, RequestId id)
      : stream_(std::move(stream)), index_(index), id_(id) {}
  void OnTokens(absl::Span<const SampledToken>) override {}
  void OnOutput(const RequestOutput& output) override {
    if (output.kind == OutputKind::kHidden) stream_->PushVector(index_, output.hidden);
  }
  void OnDone(FinishReason reason, const Usage& usage, absl::Status status) override {
    stream_->PushDone(index_, id_, reason, usage, status);
  }

 private:
  std::shared_ptr<EmbeddingStream> stream_;
  size_t index_;
  RequestId id_;
};

EmbeddingStream::EmbeddingStream(EmbeddingSetup setup)
    : setup_(std::move(setup)), vectors_(setup_.requests.size()), usages_(setup_.requests.size()) {}

void EmbeddingStream::Begin() {
  std::unique_lock lock(mutex_);
  ScheduleIfReady(lock);
}

void EmbeddingStream::Cancel(CancelReason reason) {
  std::unique_lock lock(mutex_);
  if (ended_ || cancelled_) return;
  cancelled_ = reason;
  ScheduleIfReady(lock);
}

bool EmbeddingStream::ReadyLocked() const {
  if (ended_) return false;
  if (live_.empty() || (StoppedLocked() && !cancels_sent_)) return true;
  return !StoppedLocked() && next_ < vectors_.size() && live_.size() <= kMaxLive / 2;
}

// Releases the lock when it schedules.
void EmbeddingStream::ScheduleIfReady(std::unique_lock<std::mutex>& lock) {
  if (scheduled_ || !ReadyLocked()) return;
  scheduled_ = true;
  lock.unlock();
  setup_.loop->Schedule(shared_from_this());
}

void EmbeddingStream::PushVector(size_t index, const std::vector<float>& vector) {
  std::lock_guard lock(mutex_);
  vectors_[index] = vector;
}

void EmbeddingStream::PushDone(size_t index, RequestId id, FinishReason reason, const Usage& usage,
                               const absl::Status& status) {
  std::unique_lock lock(mutex_);
  std::erase(live_, id);
  usages_[index] = usage;
  if (!StoppedLocked()) {
    if (!status.ok()) {
      error_ = ToCallError(status);
    } else if (reason == FinishReason::kCancelled) {
      error_ = ErrorOf(CancelReason::kShutdown);
    } else if (vectors_[index].size() < static_cast<size_t>(setup_.size)) {
      error_ = CallError{
          absl::StatusCode::kInternal,
          absl::StrCat("the engine gave ", vectors_[index].size(), " of ", setup_.size, " numbers"),
          ""};
    }
  }
  ScheduleIfReady(lock);
}

void EmbeddingStream::Run() {
  SubmitMore();
  CancelLive();
  std::unique_lock lock(mutex_);
  scheduled_ = false;
  if (live_.empty() && (StoppedLocked() || next_ == vectors_.size())) {
    if (std::exchange(ended_, true)) return;
    lock.unlock();
    return End();
  }
  ScheduleIfReady(lock);
}

void EmbeddingStream::SubmitMore() {
  while (true) {
    const RequestId id(setup_.next_id->fetch_add(1, std::memory_order_relaxed));
    size_t index;
    {
      std::lock_guard lock(mutex_);
      if (StoppedLocked() || next_ == vectors_.size() || live_.size() >= kMaxLive) return;
      index = next_++;
      live_.push_back(id);
    }
    const absl::Status submitted =
        setup_.model->engine->Submit(id, std::move(setup_.requests[index]),
                                     std::make_shared<InputSink>(shared_from_this(), index, id));
    if (submitted.ok()) continue;
    std::lock_guard lock(mutex_);
    std::erase(live_, id);
    if (!StoppedLocked()) error_ = ToCallError(submitted);
  }
}

// Only here, after SubmitMore: whatever is live has been submitted.
void EmbeddingStream::CancelLive() {
  std::vector<RequestId> ids;
  {
    std::lock_guard lock(mutex_);
    if (!StoppedLocked() || cancels_sent_) return;
    cancels_sent_ = true;
    ids = live_;
  }
  for (const RequestId id : ids) setup_.model->engine->Cancel(id);
}

void EmbeddingStream::End() {
  const RequestMetrics& metrics = MetricsOf(*setup_.model);
  const auto inputs = static_cast<double>(vectors_.size());
  RequestRecord record = setup_.record;
  record.num_choices = static_cast<int32_t>(vectors_.size());
  record.total_time = setup_.clock->Now() - setup_.arrival;
  if (cancelled_ || error_) {
    RecordFailure(cancelled_, error_, inputs, metrics, record);
    setup_.result.error = cancelled_ ? ErrorOf(*cancelled_) : *error_;
  } else {
    record.finish = "stop";
    metrics.success_stop.Add(inputs);
    ObserveEnd(record);
    FinishVectors();
  }
  setup_.result.usage = record.usage;
  const bool billed = cancelled_.has_value() || !error_;
  if (billed) {
    setup_.usage.CountRequest(record.usage.prompt_tokens);
    setup_.usage.CountCached(record.usage.cached_tokens);
  }
  if (setup_.reservation != nullptr)
    setup_.reservation->Settle(billed ? record.usage.prompt_tokens : 0);
  if (setup_.log != nullptr) setup_.log->Record(record);
  std::exchange(setup_.done, nullptr)(std::move(setup_.result));
}

void EmbeddingStream::FinishVectors() {
  for (std::vector<float>& vector : vectors_) {
    vector.resize(setup_.size);
    if (setup_.scores) {
      for (float& v : vector) v = static_cast<float>(1.0 / (1.0 + std::exp(-double{v})));
    } else if (setup_.model->normalize) {
      const double scale = 1.0 / std::max(std::sqrt(SumOfSquares(vector)), 1e-12);
      for (float& v : vector) v = static_cast<float>(v * scale);
    }
  }
  setup_.result.vectors = std::move(vectors_);
}

void EmbeddingStream::ObserveEnd(RequestRecord& record) const {
  const RequestMetrics& metrics = MetricsOf(*setup_.model);
  for (const Usage& usage : usages_) {
    metrics.queue_time.Observe(absl::ToDoubleSeconds(usage.queue_time));
    metrics.prefill_time.Observe(absl::ToDoubleSeconds(usage.prefill_time));
    metrics.inference_time.Observe(absl::ToDoubleSeconds(usage.prefill_time));
    record.usage.cached_tokens += usage.cached_tokens;
    record.queue_time = std::max(record.queue_time, usage.queue_time);
    record.prefill_time = std::max(record.prefill_time, usage.prefill_time);
  }
  metrics.CountPrompt(record.usage.prompt_tokens, record.usage.cached_tokens);
  metrics.request_prompt_tokens.Observe(static_cast<double>(record.usage.prompt_tokens));
  metrics.e2e_latency.Observe(absl::ToDoubleSeconds(record.total_time));
}

}  // namespace penstock
