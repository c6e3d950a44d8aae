#include "api/grpc/calls.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "service/call_error.h"

namespace penstock {
namespace {

/// Bytes, of which a client sees each as three at worst, of 8 KiB that all it gets may have.
constexpr size_t kMaxStatusText = 1024;

}  // namespace

void CallEnd::AddTrailer(const std::string& name, std::string_view value) const {
  constexpr size_t kMost = 1024;  // bytes; clients bound all of them together
  std::string safe;
  for (const char c : value) {
    if (safe.size() >= kMost) break;
    if (c >= 0x20 && c <= 0x7e) {
      safe += c;
    } else {
      absl::StrAppendFormat(&safe, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  context->AddTrailingMetadata(name, safe);
}

grpc::Status CallEnd::Make(const CallError& error) const {
  if (on_answer) on_answer(HttpStatus(error.code));
  if (!error.param.empty()) AddTrailer("x-error-param", error.param);
  if (error.retry_after) AddTrailer("retry-after", std::to_string(*error.retry_after));
  return {static_cast<grpc::StatusCode>(error.code), Shown(error.message, kMaxStatusText)};
}

grpc::Status CallEnd::Ok() const {
  if (on_answer) on_answer(200);
  return grpc::Status::OK;
}

grpc::Status CallEnd::Cancelled() const {
  if (on_answer) on_answer(499);
  return grpc::Status::CANCELLED;
}

template <class Response>
std::shared_ptr<UnaryCall<Response>> UnaryCall<Response>::Make(CallEnd end, Response* response) {
  std::shared_ptr<UnaryCall> call(new UnaryCall(std::move(end), response));
  call->self_ = call;
  return call;
}

template <class Response>
void UnaryCall<Response>::OnClientGone(std::function<void(CancelReason)> cancel) {
  {
    std::lock_guard lock(mutex_);
    if (!finished_) {
      cancel_ = std::move(cancel);
      return;
    }
  }
  cancel(CancelReason::kDisconnect);
}

template <class Response>
void UnaryCall<Response>::AddTrailers(
    const std::vector<std::pair<std::string, std::string>>& trailers) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  for (const auto& [name, value] : trailers) end_.AddTrailer(name, value);
}

template <class Response>
void UnaryCall<Response>::Answer(Response&& response) {
  std::lock_guard lock(mutex_);
  if (std::exchange(finished_, true)) return;
  cancel_ = nullptr;
  response_->Swap(&response);
  Finish(end_.Ok());
}

template <class Response>
void UnaryCall<Response>::Fail(const CallError& error) {
  std::lock_guard lock(mutex_);
  if (std::exchange(finished_, true)) return;
  cancel_ = nullptr;
  Finish(end_.Make(error));
}

template <class Response>
void UnaryCall<Response>::OnCancel() {
  std::function<void(CancelReason)> cancel;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(finished_, true)) return;
    cancel = std::exchange(cancel_, nullptr);
    Finish(end_.Cancelled());
  }
  if (cancel) cancel(CancelReason::kDisconnect);
}

template <class Response>
std::shared_ptr<StreamCall<Response>> StreamCall<Response>::Make(CallEnd end, size_t max_bytes,
                                                                 absl::Duration write_stall) {
  std::shared_ptr<StreamCall> call(new StreamCall(std::move(end), max_bytes, write_stall));
  call->self_ = call;
  return call;
}

template <class Response>
void StreamCall<Response>::Attach(std::shared_ptr<RunningCall> stream) {
  {
    std::lock_guard lock(mutex_);
    if (!end_status_) {
      stream_ = std::move(stream);
      return;
    }
  }
  stream->Cancel(CancelReason::kDisconnect);  // does nothing where the stream has ended
}

template <class Response>
void StreamCall<Response>::AddTrailers(
    const std::vector<std::pair<std::string, std::string>>& trailers) {
  std::lock_guard lock(mutex_);
  if (end_status_) return;
  for (const auto& [name, value] : trailers) end_.AddTrailer(name, value);
}

template <class Response>
void StreamCall<Response>::Push(Response&& piece) {
  std::lock_guard lock(mutex_);
  if (end_status_) return;
  queued_bytes_ += piece.ByteSizeLong();
  queue_.push_back(std::move(piece));
  if (queue_.size() == 1) this->StartWrite(&queue_.front());
}

template <class Response>
void StreamCall<Response>::EndWith(grpc::Status status, bool drop_queue) {
  if (end_status_) return;
  end_status_ = std::move(status);
  stream_.reset();
  if (drop_queue && queue_.size() > 1)
    queue_.erase(queue_.begin() + 1, queue_.end());  // the front belongs to gRPC
  if (queue_.empty() && !std::exchange(finished_, true))
    grpc::ServerWriteReactor<Response>::Finish(*end_status_);
}

template <class Response>
void StreamCall<Response>::Finish() {
  std::lock_guard lock(mutex_);
  if (!end_status_) EndWith(end_.Ok(), false);
}

template <class Response>
void StreamCall<Response>::Fail(const CallError& error) {
  std::lock_guard lock(mutex_);
  if (!end_status_) EndWith(end_.Make(error), false);
}

template <class Response>
bool StreamCall<Response>::congested() {
  std::lock_guard lock(mutex_);
  if (queued_bytes_ <= max_bytes_) return false;
  if (!std::exchange(congested_, true)) WatchStall();
  return true;
}

template <class Response>
void StreamCall<Response>::WatchStall() {
  stall_alarm_.emplace();
  const gpr_timespec until =
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_millis(absl::ToInt64Milliseconds(write_stall_), GPR_TIMESPAN));
  stall_alarm_->Set(until, [weak = this->weak_from_this()](bool fired) {
    const std::shared_ptr<StreamCall> self = weak.lock();
    if (!fired || !self) return;
    std::shared_ptr<RunningCall> stream;
    {
      std::lock_guard lock(self->mutex_);
      if (!self->congested_ || self->end_status_) return;
      stream = self->stream_;
      self->EndWith(self->end_.Make(
                        {absl::StatusCode::kResourceExhausted, "the client reads too slowly", ""}),
                    true);
      self->end_.context->TryCancel();
    }
    if (stream) stream->Cancel(CancelReason::kSlowReader);
  });
}

template <class Response>
void StreamCall<Response>::OnWriteDone(bool ok) {
  std::shared_ptr<RunningCall> resumed;
  {
    std::lock_guard lock(mutex_);
    queued_bytes_ -= std::min(queued_bytes_, queue_.front().ByteSizeLong());
    queue_.pop_front();
    if (!ok) queue_.clear();
    if (!queue_.empty()) {
      this->StartWrite(&queue_.front());
    } else if (end_status_ && !std::exchange(finished_, true)) {
      grpc::ServerWriteReactor<Response>::Finish(*end_status_);
    }
    if (congested_ && queued_bytes_ <= max_bytes_ / 2) {
      congested_ = false;
      if (stall_alarm_) stall_alarm_->Cancel();
      resumed = stream_;
    }
  }
  if (resumed) resumed->Resume();
}

template <class Response>
void StreamCall<Response>::OnCancel() {
  std::shared_ptr<RunningCall> stream;
  {
    std::lock_guard lock(mutex_);
    stream = stream_;
    if (!end_status_) EndWith(end_.Cancelled(), true);
  }
  if (stream) stream->Cancel(CancelReason::kDisconnect);
}

template class UnaryCall<v1::GenerateResponse>;
template class UnaryCall<v1::ChatResponse>;
template class UnaryCall<v1::EmbedResponse>;
template class StreamCall<v1::GenerateResponse>;
template class StreamCall<v1::ChatResponse>;

}  // namespace penstock
