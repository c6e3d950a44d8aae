// The sinks that answer gRPC calls, with v1::GenerateResponse or v1::ChatResponse.
// Own the answer so far. Must not know tokens' meaning.
// Threads: called on one text worker at a time.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "api/grpc/calls.h"
#include "api/grpc/proto_writer.h"
#include "penstock/service.h"

namespace penstock {

template <class Response>
class UnaryAnswer final : public ResponseSink {
 public:
  UnaryAnswer(std::shared_ptr<UnaryCall<Response>> call, ProtoShape shape)
      : call_(std::move(call)), shape_(shape) {}
  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;

 private:
  const std::shared_ptr<UnaryCall<Response>> call_;
  ProtoShape shape_;
  Response response_;
};

template <class Response>
class StreamAnswer final : public ResponseSink {
 public:
  StreamAnswer(std::shared_ptr<StreamCall<Response>> call, ProtoShape shape)
      : call_(std::move(call)), shape_(shape) {}
  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return call_->congested(); }

 private:
  const std::shared_ptr<StreamCall<Response>> call_;
  ProtoShape shape_;
  Response common_;                  // what all pieces share
  std::vector<TokenId> prompt_ids_;  // of the first piece
  std::vector<bool> begun_;          // per choice: its first piece is out
};

}  // namespace penstock
