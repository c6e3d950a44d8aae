// The sinks that answer gRPC calls.
// Own the answer so far. Must not know tokens' meaning.
// Threads: called on one text worker at a time.
#pragma once

#include <memory>
#include <utility>

#include "api/grpc/calls.h"
#include "penstock/service.h"

namespace penstock {

/// Which of a delta's tokens the client wants.
struct GrpcShape {
  bool token_ids = false;
  bool logprobs = false;
};

class UnaryAnswer final : public ResponseSink {
 public:
  UnaryAnswer(std::shared_ptr<UnaryCall> call, GrpcShape shape)
      : call_(std::move(call)), shape_(shape) {}
  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;

 private:
  const std::shared_ptr<UnaryCall> call_;
  GrpcShape shape_;
  v1::GenerateResponse response_;
};

class StreamAnswer final : public ResponseSink {
 public:
  StreamAnswer(std::shared_ptr<StreamCall> call, GrpcShape shape)
      : call_(std::move(call)), shape_(shape) {}
  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return call_->congested(); }

 private:
  const std::shared_ptr<StreamCall> call_;
  GrpcShape shape_;
  v1::GenerateResponse common_;  // what all pieces share
};

}  // namespace penstock
