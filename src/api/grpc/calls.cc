#include "api/grpc/calls.h"

#include <utility>

#include "service/call_error.h"

namespace penstock {

grpc::Status CallEnd::Make(const CallError& error) const {
  if (on_answer) on_answer(HttpStatus(error.code));
  if (!error.param.empty()) context->AddTrailingMetadata("x-error-param", error.param);
  return {static_cast<grpc::StatusCode>(error.code), error.message};
}

grpc::Status CallEnd::Ok() const {
  if (on_answer) on_answer(200);
  return grpc::Status::OK;
}

grpc::Status CallEnd::Cancelled() const {
  if (on_answer) on_answer(499);
  return grpc::Status::CANCELLED;
}

std::shared_ptr<UnaryCall> UnaryCall::Make(CallEnd end, v1::GenerateResponse* response) {
  std::shared_ptr<UnaryCall> call(new UnaryCall(std::move(end), response));
  call->self_ = call;
  return call;
}

void UnaryCall::Attach(std::shared_ptr<ResponseStream> stream) {
  {
    std::lock_guard lock(mutex_);
    if (!finished_) {
      stream_ = std::move(stream);
      return;
    }
  }
  stream->Cancel(CancelReason::kDisconnect);
}

void UnaryCall::Answer(v1::GenerateResponse&& response) {
  std::lock_guard lock(mutex_);
  if (std::exchange(finished_, true)) return;
  stream_.reset();
  response_->Swap(&response);
  Finish(end_.Ok());
}

void UnaryCall::Fail(const CallError& error) {
  std::lock_guard lock(mutex_);
  if (std::exchange(finished_, true)) return;
  stream_.reset();
  Finish(end_.Make(error));
}

void UnaryCall::OnCancel() {
  std::shared_ptr<ResponseStream> stream;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(finished_, true)) return;
    stream = std::move(stream_);
    Finish(end_.Cancelled());
  }
  if (stream) stream->Cancel(CancelReason::kDisconnect);
}

std::shared_ptr<StreamCall> StreamCall::Make(CallEnd end, size_t max_bytes,
                                             absl::Duration write_stall) {
  std::shared_ptr<StreamCall> call(new StreamCall(std::move(end), max_bytes, write_stall));
  call->self_ = call;
  return call;
}

void StreamCall::Attach(std::shared_ptr<ResponseStream> stream) {
  {
    std::lock_guard lock(mutex_);
    if (!end_status_) {
      stream_ = std::move(stream);
      return;
    }
  }
  stream->Cancel(CancelReason::kDisconnect);  // does nothing where the stream has ended
}

void StreamCall::Push(v1::GenerateResponse&& piece) {
  std::lock_guard lock(mutex_);
  if (end_status_) return;
  queued_bytes_ += piece.ByteSizeLong();
  queue_.push_back(std::move(piece));
  if (queue_.size() == 1) StartWrite(&queue_.front());
}

void StreamCall::EndWith(grpc::Status status, bool drop_queue) {
  if (end_status_) return;
  end_status_ = std::move(status);
  stream_.reset();
  if (drop_queue && queue_.size() > 1)
    queue_.erase(queue_.begin() + 1, queue_.end());  // the front belongs to gRPC
  if (queue_.empty() && !std::exchange(finished_, true)) ServerWriteReactor::Finish(*end_status_);
}

void StreamCall::Finish() {
  std::lock_guard lock(mutex_);
  if (!end_status_) EndWith(end_.Ok(), false);
}

void StreamCall::Fail(const CallError& error) {
  std::lock_guard lock(mutex_);
  if (!end_status_) EndWith(end_.Make(error), false);
}

bool StreamCall::congested() {
  std::lock_guard lock(mutex_);
  if (queued_bytes_ <= max_bytes_) return false;
  if (!std::exchange(congested_, true)) WatchStall();
  return true;
}

void StreamCall::WatchStall() {
  stall_alarm_.emplace();
  const auto until = std::chrono::system_clock::now() + absl::ToChronoMilliseconds(write_stall_);
  stall_alarm_->Set(until, [weak = weak_from_this()](bool fired) {
    const std::shared_ptr<StreamCall> self = weak.lock();
    if (!fired || !self) return;
    std::shared_ptr<ResponseStream> stream;
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

void StreamCall::OnWriteDone(bool ok) {
  std::shared_ptr<ResponseStream> resumed;
  {
    std::lock_guard lock(mutex_);
    queued_bytes_ -= std::min(queued_bytes_, queue_.front().ByteSizeLong());
    queue_.pop_front();
    if (!ok) queue_.clear();
    if (!queue_.empty()) {
      StartWrite(&queue_.front());
    } else if (end_status_ && !std::exchange(finished_, true)) {
      ServerWriteReactor::Finish(*end_status_);
    }
    if (congested_ && queued_bytes_ <= max_bytes_ / 2) {
      congested_ = false;
      if (stall_alarm_) stall_alarm_->Cancel();
      resumed = stream_;
    }
  }
  if (resumed) resumed->Resume();
}

void StreamCall::OnCancel() {
  std::shared_ptr<ResponseStream> stream;
  {
    std::lock_guard lock(mutex_);
    stream = stream_;
    if (!end_status_) EndWith(end_.Cancelled(), true);
  }
  if (stream) stream->Cancel(CancelReason::kDisconnect);
}

}  // namespace penstock
