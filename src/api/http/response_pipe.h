// The bytes of one answer between whoever writes it and the connection that sends it.
// Owns the bytes not yet taken. Must not know sockets or endpoints.
// Threads: thread-safe; Take, Sent and Gone on the I/O thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/message.h"

namespace penstock {

class ResponsePipe {
 public:
  struct Settings {
    bool keep_alive = true;
    bool head_only = false;  // HEAD
    bool http_1_0 = false;
    size_t stream_buffer = 0;
    std::string request_id;
    std::string accept_encoding;
    HttpHeaders headers;  // of every answer
    const std::atomic<bool>* closing = nullptr;
    const std::function<void(int)>* on_answer = nullptr;
    std::chrono::steady_clock::time_point began;  // of the request
    std::function<void()> flush;                  // asks the connection to Take; any thread
  };
  explicit ResponsePipe(Settings settings) : settings_(std::move(settings)) {}

  void CountAs(const HttpRouteMetrics& metrics);
  void Respond(HttpResponse response);
  void AddHeader(std::string name, std::string value);
  void StartStream(std::string_view content_type, const HttpHeaders& headers);
  void Write(std::string_view bytes);
  void EndStream(bool close);
  /// The exchange is dropped: 500 where nothing was said, the connection's end where a stream is
  /// open.
  void Abandon();
  bool started() const;
  bool congested();
  void Watch(std::function<void(CancelReason)> gone, std::function<void()> drained);

  /// Moves what is ready to the end of the empty `out`; true: that was the last.
  bool Take(std::string& out);
  /// `remaining` bytes of what was taken are not sent yet.
  void Sent(size_t remaining);
  void Gone(CancelReason reason);
  bool closes() const;
  std::optional<std::chrono::steady_clock::time_point> congested_since() const;

 private:
  enum class State : uint8_t { kWaiting, kStreaming, kEnded, kGone };
  void FlushSoon(std::unique_lock<std::mutex>& lock);
  bool WantsClose() const;
  void Count(int status) const;

  Settings settings_;
  mutable std::mutex mutex_;                   // guards from here
  const HttpRouteMetrics* metrics_ = nullptr;  // null: not counted
  State state_ = State::kWaiting;
  bool started_ = false;
  bool close_ = false;
  bool flush_asked_ = false;
  std::string ready_;
  size_t in_flight_ = 0;
  std::optional<std::chrono::steady_clock::time_point> congested_since_;
  std::function<void(CancelReason)> gone_;
  std::function<void()> drained_;
  bool drained_unheard_ = false;  // it did while nobody watched
  CancelReason gone_reason_ = CancelReason::kDisconnect;
};

/// What an endpoint holds.
class LiveExchange final : public HttpExchange {
 public:
  LiveExchange(HttpRequest request, std::shared_ptr<ResponsePipe> pipe)
      : request_(std::move(request)), pipe_(std::move(pipe)) {}
  ~LiveExchange() override { pipe_->Abandon(); }
  HttpRequest& request() override { return request_; }
  void CountAs(const HttpRouteMetrics& metrics) override { pipe_->CountAs(metrics); }
  void Respond(HttpResponse response) override { pipe_->Respond(std::move(response)); }
  void AddHeader(std::string name, std::string value) override {
    pipe_->AddHeader(std::move(name), std::move(value));
  }
  void StartStream(std::string_view content_type, const HttpHeaders& headers) override {
    pipe_->StartStream(content_type, headers);
  }
  void Write(std::string_view bytes) override { pipe_->Write(bytes); }
  void EndStream(bool close) override { pipe_->EndStream(close); }
  bool started() const override { return pipe_->started(); }
  bool congested() override { return pipe_->congested(); }
  void Watch(std::function<void(CancelReason)> gone, std::function<void()> drained) override {
    pipe_->Watch(std::move(gone), std::move(drained));
  }

 private:
  HttpRequest request_;
  std::shared_ptr<ResponsePipe> pipe_;
};

}  // namespace penstock
