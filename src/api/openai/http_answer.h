// The sink that answers one HTTP exchange with one call's deltas, streaming or at once.
// Owns the answer's writer and, where it does not stream, the text so far. Must not know tokens'
// meaning.
// Threads: called on one text worker at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/http/message.h"
#include "api/openai/answer_writer.h"

namespace penstock {

class HttpAnswer final : public ResponseSink {
 public:
  HttpAnswer(std::shared_ptr<HttpExchange> exchange, AnswerShape shape)
      : exchange_(std::move(exchange)), shape_(shape) {}

  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return shape_.stream && exchange_->congested(); }

 private:
  void OnError(const CallError& error);

  const std::shared_ptr<HttpExchange> exchange_;
  AnswerShape shape_;
  std::optional<AnswerWriter> writer_;
  std::vector<Delta> choices_;  // not streaming
  std::string events_;          // reused
};

}  // namespace penstock
