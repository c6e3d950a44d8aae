#include "api/http/response_pipe.h"

#include <utility>

#include "api/http/content_encoding.h"
#include "api/http/json_text.h"
#include "api/http/response_head.h"
#include "metrics/http_metrics.h"

namespace penstock {

bool ResponsePipe::WantsClose() const {
  return !settings_.keep_alive || close_ || (settings_.closing != nullptr && *settings_.closing);
}

// When the request ends, with the lock held.
void ResponsePipe::Count(int status) const {
  if (metrics_ == nullptr) return;
  metrics_->Count(status, absl::FromChrono(std::chrono::steady_clock::now() - settings_.began));
}

// Releases the lock.
void ResponsePipe::FlushSoon(std::unique_lock<std::mutex>& lock) {
  if (flush_asked_) return lock.unlock();
  flush_asked_ = true;
  const std::function<void()> flush = settings_.flush;
  lock.unlock();
  if (flush) flush();
}

void ResponsePipe::CountAs(const HttpRouteMetrics& metrics) {
  std::lock_guard lock(mutex_);
  metrics_ = &metrics;
}

void ResponsePipe::Respond(HttpResponse response) {
  if (!settings_.accept_encoding.empty()) EncodeBody(settings_.accept_encoding, response);
  response.headers.insert(response.headers.end(), settings_.headers.begin(),
                          settings_.headers.end());
  std::unique_lock lock(mutex_);
  if (state_ != State::kWaiting) return;
  started_ = true;
  state_ = State::kEnded;
  close_ = WantsClose();
  ResponseHead head;
  head.status = response.status;
  head.content_type = response.content_type;
  head.request_id = settings_.request_id;
  head.headers = &response.headers;
  head.content_length = response.body.size();
  head.close = close_;
  head.http_1_0 = settings_.http_1_0;
  ready_.reserve(response.body.size() + 512);
  AppendHead(ready_, head);
  if (!settings_.head_only) ready_ += response.body;
  if (settings_.on_answer != nullptr && *settings_.on_answer)
    (*settings_.on_answer)(response.status);
  Count(response.status);
  FlushSoon(lock);
}

void ResponsePipe::AddHeader(std::string name, std::string value) {
  std::lock_guard lock(mutex_);
  if (!started_) settings_.headers.emplace_back(std::move(name), std::move(value));
}

void ResponsePipe::StartStream(std::string_view content_type, const HttpHeaders& headers) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kWaiting) return;
  HttpHeaders all = headers;
  all.insert(all.end(), settings_.headers.begin(), settings_.headers.end());
  started_ = true;
  state_ = State::kStreaming;
  close_ = WantsClose() ||
           settings_.http_1_0;  // without chunks only the end of the connection ends the body
  ResponseHead head;
  head.content_type = content_type;
  head.request_id = settings_.request_id;
  head.headers = &all;
  head.chunked = true;
  head.close = close_;
  head.http_1_0 = settings_.http_1_0;
  AppendHead(ready_, head);
  if (settings_.on_answer != nullptr && *settings_.on_answer) (*settings_.on_answer)(200);
}

void ResponsePipe::Write(std::string_view bytes) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kStreaming || bytes.empty()) return;
  if (settings_.http_1_0) {
    ready_ += bytes;
  } else {
    AppendChunk(ready_, bytes);
  }
  FlushSoon(lock);
}

void ResponsePipe::EndStream(bool close) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kStreaming) return;
  state_ = State::kEnded;
  close_ = close || WantsClose();
  if (!settings_.http_1_0) ready_ += "0\r\n\r\n";
  Count(200);
  FlushSoon(lock);
}

void ResponsePipe::Abandon() {
  bool waiting, streaming;
  {
    std::lock_guard lock(mutex_);
    waiting = state_ == State::kWaiting;
    streaming = state_ == State::kStreaming;
  }
  if (waiting) {
    HttpResponse response;
    response.status = 500;
    response.body = ErrorBody(500, "the request was dropped", "");
    Respond(std::move(response));
  }
  if (streaming) EndStream(true);
}

bool ResponsePipe::started() const {
  std::lock_guard lock(mutex_);
  return started_;
}

bool ResponsePipe::congested() {
  std::lock_guard lock(mutex_);
  if (state_ == State::kGone || ready_.size() + in_flight_ <= settings_.stream_buffer) return false;
  if (!congested_since_) congested_since_ = std::chrono::steady_clock::now();
  return true;
}

void ResponsePipe::Watch(std::function<void(CancelReason)> gone, std::function<void()> drained) {
  std::unique_lock lock(mutex_);
  if (state_ == State::kGone) {
    const CancelReason reason = gone_reason_;
    lock.unlock();
    return gone(reason);
  }
  if (state_ == State::kEnded) return;
  gone_ = std::move(gone);
  drained_ = std::move(drained);
  if (!std::exchange(drained_unheard_, false)) return;
  const std::function<void()> heard = drained_;
  lock.unlock();
  heard();
}

bool ResponsePipe::Take(std::string& out) {
  std::lock_guard lock(mutex_);
  flush_asked_ = false;
  out.swap(ready_);
  in_flight_ = out.size();
  return state_ == State::kEnded;
}

void ResponsePipe::Sent(size_t remaining) {
  std::function<void()> drained;
  {
    std::lock_guard lock(mutex_);
    in_flight_ = remaining;
    if (!congested_since_ || ready_.size() + in_flight_ > settings_.stream_buffer / 2) return;
    congested_since_.reset();
    drained = drained_;
    drained_unheard_ = !drained;
  }
  if (drained) drained();
}

void ResponsePipe::Gone(CancelReason reason) {
  std::function<void(CancelReason)> gone;
  std::function<void()> drained,
      flush;  // destroyed outside the lock: they may hold the last reference to their owner
  {
    std::lock_guard lock(mutex_);
    drained.swap(drained_);
    flush.swap(settings_.flush);
    gone.swap(gone_);
    if (state_ == State::kEnded || state_ == State::kGone) {
      state_ = State::kGone;
      gone = nullptr;
    } else {
      if (!started_ && settings_.on_answer != nullptr && *settings_.on_answer)
        (*settings_.on_answer)(499);
      Count(started_ ? 200 : 499);
      state_ = State::kGone;
      gone_reason_ = reason;
    }
  }
  if (gone) gone(reason);
}

bool ResponsePipe::closes() const {
  std::lock_guard lock(mutex_);
  return close_;
}

std::optional<std::chrono::steady_clock::time_point> ResponsePipe::congested_since() const {
  std::lock_guard lock(mutex_);
  return congested_since_;
}

}  // namespace penstock
