// The sink that answers one call of /v1/messages, as one message or as the events of a stream.
// Owns its blocks, with their texts where it does not stream. Must not know how calls are read.
// Threads: called on one text worker at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  enum class Kind : uint8_t { kThinking, kText, kToolUse };
  struct Block {
    Kind kind = Kind::kText;
    std::string text;      // of kToolUse: its input
    std::string id, name;  // kToolUse
    int32_t call = 0;      // kToolUse: which one of the reply
  };

  void AppendOpening();
  /// The block that goes on with a text of `kind`, or with `call`; the one before it is closed.
  Block& BlockFor(Kind kind, const CallDelta* call);
  void AddText(Block& block, std::string_view text);
  void OpenBlock();
  void CloseBlock();
  static void AppendBlock(std::string& out, const Block& block);
  void AppendMessageHead(std::string& out) const;
  void AppendStop(std::string& out) const;
  void Flush();

  const std::shared_ptr<HttpExchange> exchange_;
  const bool stream_;
  std::string id_, request_id_, model_name_;
  int64_t prompt_tokens_ = 0;
  std::vector<std::string> warnings_;
  bool opened_ = false;        // the first events are out
  std::vector<Block> blocks_;  // the last one is open; streaming: without their texts
  bool calls_ = false;         // there is one
  std::optional<FinishReason> finish_;
  std::string stop_string_;
  std::string events_;  // reused
};

}  // namespace penstock
