// The reactors of gRPC's callback API: one unary answer, and one stream of pieces with a bounded
// queue.
// Own the messages on their way out; live until gRPC's OnDone and while a sink holds them. Must not
// know tokens.
// Threads: thread-safe; gRPC calls the On... methods, text workers the others.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "penstock/v1/inference.pb.h"
#include "service/running_call.h"

namespace penstock {

/// What both kinds of call do about an end and a client that goes away.
struct CallEnd {
  grpc::CallbackServerContext* context = nullptr;
  std::function<void(int http_status)> on_answer;  // counts the call; may be null
  /// To the trailing metadata, which is of printable ASCII: other bytes are %XX, as in a URL.
  void AddTrailer(const std::string& name, std::string_view value) const;
  /// Counts, and names the field at fault in the trailing metadata.
  grpc::Status Make(const CallError& error) const;
  grpc::Status Ok() const;
  grpc::Status Cancelled() const;
};

template <class Response>
class UnaryCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<UnaryCall<Response>> {
 public:
  static std::shared_ptr<UnaryCall> Make(CallEnd end, Response* response);
  /// The ResponseStream or EmbeddingStream to cancel when the client goes away.
  template <class Stream>
  void Attach(std::shared_ptr<Stream> stream) {
    OnClientGone([stream = std::move(stream)](CancelReason reason) { stream->Cancel(reason); });
  }
  /// Further metadata at the end.
  void AddTrailers(const std::vector<std::pair<std::string, std::string>>& trailers);
  void Answer(Response&& response);
  void Fail(const CallError& error);
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  void OnClientGone(std::function<void(CancelReason)> cancel);

  UnaryCall(CallEnd end, Response* response) : end_(std::move(end)), response_(response) {}
  const CallEnd end_;
  Response* const response_;  // gRPC's, valid until Finish
  std::mutex mutex_;          // guards from here
  bool finished_ = false;
  std::function<void(CancelReason)> cancel_;
  std::shared_ptr<UnaryCall> self_;  // until OnDone
};

template <class Response>
class StreamCall final : public grpc::ServerWriteReactor<Response>,
                         public std::enable_shared_from_this<StreamCall<Response>> {
 public:
  static std::shared_ptr<StreamCall> Make(CallEnd end, size_t max_bytes,
                                          absl::Duration write_stall);
  void Attach(std::shared_ptr<RunningCall> stream);
  /// Further metadata at the end.
  void AddTrailers(const std::vector<std::pair<std::string, std::string>>& trailers);
  void Push(Response&& piece);
  void Finish();
  void Fail(const CallError& error);
  /// More than max_bytes wait. The stream is resumed once half of that is left; after write_stall
  /// it is cancelled.
  bool congested();
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  StreamCall(CallEnd end, size_t max_bytes, absl::Duration write_stall)
      : end_(std::move(end)), max_bytes_(max_bytes), write_stall_(write_stall) {}
  void EndWith(grpc::Status status, bool drop_queue);
  void WatchStall();

  const CallEnd end_;
  const size_t max_bytes_;
  const absl::Duration write_stall_;
  std::mutex mutex_;            // guards from here
  std::deque<Response> queue_;  // the front is being written
  size_t queued_bytes_ = 0;
  bool congested_ = false;
  bool finished_ = false;
  std::optional<grpc::Status> end_status_;
  std::shared_ptr<RunningCall> stream_;
  std::optional<grpc::Alarm> stall_alarm_;
  std::shared_ptr<StreamCall> self_;  // until OnDone
};

}  // namespace penstock
