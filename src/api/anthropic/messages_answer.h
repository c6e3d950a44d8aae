// The sink that answers one call of /v1/messages, as one message or as the events of a stream.
// Owns the text so far where it does not stream. Must not know how calls are read.
// Threads: called on one text worker at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "api/http/message.h"
#include "penstock/service.h"

namespace penstock {

class MessagesAnswer final : public ResponseSink {
 public:
  MessagesAnswer(std::shared_ptr<HttpExchange> exchange, bool stream)
      : exchange_(std::move(exchange)), stream_(stream) {}

  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return stream_ && exchange_->congested(); }

 private:
  void OnError(const CallError& error);
  void AppendOpening();
  void AppendMessageHead(std::string& out) const;
  void AppendStop(std::string& out) const;
  void Flush();

  const std::shared_ptr<HttpExchange> exchange_;
  const bool stream_;
  std::string id_, request_id_, model_name_;
  int64_t prompt_tokens_ = 0;
  bool opened_ = false;  // the first events are out
  std::string text_;     // not streaming
  std::optional<FinishReason> finish_;
  std::string stop_string_;
  std::string events_;  // reused
};

}  // namespace penstock
