// One call for embeddings or scores on its way: its inputs are submitted, their vectors gathered in
// order.
// Owns the requests not yet submitted and the vectors. Must not know text, JSON or sockets.
// Threads: sinks on the engine thread; Run on one text worker at a time; Cancel from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "ledger/usage_book.h"
#include "penstock/service.h"
#include "service/tenant_limits.h"
#include "service/text_loop.h"

namespace penstock {

/// What a client asks of an embedding model or of a reranker.
struct EmbeddingCall {
  GenerationCall base;  // prompts: the inputs, or the documents of a rerank
  bool rerank = false;
  std::string query;  // rerank
};

struct EmbeddingResult {
  std::string model_name;  // as the client asked
  std::string request_id;
  int64_t created = 0;                      // seconds since 1970
  std::optional<CallError> error;           // there are no vectors
  std::vector<std::vector<float>> vectors;  // one per input, in order; of a rerank one score each
  UsageTotals usage;
};

using EmbeddingDone = std::function<void(EmbeddingResult)>;

struct EmbeddingSetup {
  std::shared_ptr<const ServedModel> model;
  TextLoop* loop = nullptr;
  const Clock* clock = nullptr;
  std::shared_ptr<RequestLog> chain;         // what links log of the call; null: no chain
  RequestLog* log = nullptr;                 // null: not logged
  std::atomic<uint64_t>* next_id = nullptr;  // of requests to the engine
  absl::Time arrival;
  RequestRecord record;  // ids and prompt tokens are set, the rest is filled at the end
  std::vector<GenerateRequest> requests;
  bool scores = false;  // vectors become their first number's sigmoid
  int32_t size = 0;     // numbers that a vector keeps
  EmbeddingResult result;
  EmbeddingDone done;
  std::shared_ptr<TenantLimits::Reservation> reservation;  // settled at the end; null: no limits
  UsageMeter usage;                                        // of the tenant
};

class EmbeddingStream final : public TextTask,
                              public std::enable_shared_from_this<EmbeddingStream> {
 public:
  explicit EmbeddingStream(EmbeddingSetup setup);

  /// Begins: `done` follows, once.
  void Begin();
  /// The client is gone, or must go. Idempotent.
  void Cancel(CancelReason reason);

  void Run() override;

 private:
  class InputSink;

  bool StoppedLocked() const { return error_.has_value() || cancelled_.has_value(); }
  bool ReadyLocked() const;
  void ScheduleIfReady(std::unique_lock<std::mutex>& lock);
  void PushVector(size_t index, const std::vector<float>& vector);
  void PushDone(size_t index, RequestId id, FinishReason reason, const Usage& usage,
                const absl::Status& status);

  // On the text worker.
  void SubmitMore();
  void CancelLive();
  void End();
  void FinishVectors();
  void ObserveEnd(RequestRecord& record) const;

  EmbeddingSetup setup_;  // requests and result: text worker only

  std::mutex mutex_;  // guards from here
  std::vector<RequestId> live_;
  std::vector<std::vector<float>> vectors_;
  std::vector<Usage> usages_;
  size_t next_ = 0;  // the first input not yet submitted
  bool scheduled_ = false;
  bool cancels_sent_ = false;
  bool ended_ = false;
  std::optional<CallError> error_;
  std::optional<CancelReason> cancelled_;  // to here
};

}  // namespace penstock
