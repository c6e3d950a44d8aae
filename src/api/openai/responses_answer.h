// The sink that answers one call of /v1/responses, as one object or as the events of a stream, and
// keeps the answer where that was asked for.
// Owns the items so far. Must not know how calls are read.
// Threads: called on one text worker at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/message.h"
#include "api/openai/response_store.h"
#include "api/openai/responses_codec.h"
#include "api/openai/responses_items.h"
#include "penstock/service.h"

namespace penstock {

class ResponsesAnswer final : public ResponseSink {
 public:
  ResponsesAnswer(std::shared_ptr<HttpExchange> exchange, ResponseRequest request,
                  std::shared_ptr<ResponseStore> store);

  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;
  bool congested() const override { return request_.stream && exchange_->congested(); }

 private:
  enum class Status : uint8_t { kInProgress, kCompleted, kIncomplete, kFailed };

  void OnError(const CallError& error);
  void AppendOpening();
  /// The item that goes on with a text of `kind`, or with `call`; the one before it is closed.
  ResponseItem& ItemFor(ResponseItem::Kind kind, const CallDelta* call);
  void AddText(ResponseItem& item, std::string_view text);
  void OpenItem();
  void CloseItem(Status status);
  /// `usage` null: none yet; `error` null: none.
  void AppendResponse(std::string& out, Status status, const UsageTotals* usage,
                      const CallError* error) const;
  void AppendRequest(std::string& out) const;
  /// One event: its type and number, then `rest`.
  void AppendEvent(std::string_view type, std::string_view rest);
  /// The members that say which text of the last item is meant, each after a comma.
  std::string Place() const;
  std::string_view StatusOf(const ResponseItem& item, Status status) const;
  void Keep(const std::string& body) const;
  void Flush();

  const std::shared_ptr<HttpExchange> exchange_;
  const ResponseRequest request_;
  const std::shared_ptr<ResponseStore> store_;
  const std::string id_;
  std::string owner_;
  std::string model_name_;
  std::vector<std::string> warnings_;
  double temperature_ = 1, top_p_ = 1;
  int64_t created_ = 0;
  bool opened_ = false;  // the first events are out
  int64_t sequence_ = 0;
  std::vector<ResponseItem> items_;  // the last one is open
  std::optional<FinishReason> finish_;
  std::string events_;  // reused
};

}  // namespace penstock
