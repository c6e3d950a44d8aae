// Seam 1, between Talk and Decide: one model being served, and the sink of one request's results.
// Owns nothing. Must not know text or the wire on one side, tensors or devices on the other.
// Threads: Engine is thread-safe; a sink is called on the engine thread only and must not block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "penstock/request.h"

namespace penstock {

/// Receives one request's results. Order: OnTokens and OnOutput any number of times, then OnDone
/// exactly once.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnTokens(absl::Span<const SampledToken> tokens) = 0;
  virtual void OnOutput(const RequestOutput& output) = 0;
  /// `status` is OK for kStop, kLength and kCancelled, DEADLINE_EXCEEDED for kDeadline, the fault
  /// for kError.
  virtual void OnDone(FinishReason reason, const Usage& usage, absl::Status status) = 0;
};

enum class CommandKind : uint8_t {
  kLoadAdapter,
  kUnloadAdapter,
  kPark,
  kWake,
  kResetCache,
  kExportCache
};

/// Something to do between two steps, in order with them.
struct Command {
  CommandKind kind = CommandKind::kResetCache;
  AdapterId adapter = kNoAdapter;
  std::string path;  // kLoadAdapter: the adapter's directory; kExportCache: the file to write
};

using DoneCallback = std::function<void(absl::Status)>;

/// The requests of one priority that wait for their first step.
struct WaitingLoad {
  int32_t priority = 0;
  int32_t num_requests = 0;
  int64_t num_tokens = 0;  // to compute
  std::string tenant;      // whose they are
  int64_t cost = 0;        // tokens that they may take, by which tenants take turns
};

/// A snapshot of how busy an engine is; cheap, never blocks.
struct EngineLoad {
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int64_t num_waiting_tokens = 0;  // prompt tokens not yet computed of waiting and running requests
  double kv_usage = 0;  // blocks held by live requests / blocks, of the fullest group; [0, 1]
  /// By priority and tenant; null: none. The rest of num_waiting is not queued yet.
  std::shared_ptr<const std::vector<WaitingLoad>> waiting;
  bool has_turns = false;  // priorities go before each other, and in each tenants take turns
  double requests_per_second = 0;  // begun, lately, while others waited; 0: none have waited
  double tokens_per_second = 0;    // of their prompts
  bool healthy = true;             // false after a device fault
  bool draining = false;
  absl::Time last_step;  // engine clock; when the last step was committed
  std::vector<AdapterId> running_adapters, waiting_adapters;  // of requests
};

/// What a caller must know before it can build a request.
struct EngineInfo {
  int32_t max_context = 0;  // prompt + output tokens of one request
  int32_t vocab_size = 0;
  int32_t block_size = 0;
  int32_t num_blocks = 0;  // of group 0
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Queues a request; `id` must not be live. RESOURCE_EXHAUSTED when the queue is full,
  /// UNAVAILABLE when draining or faulted, INVALID_ARGUMENT when it can never run. After OK the
  /// sink gets its OnDone; after an error it gets nothing.
  virtual absl::Status Submit(RequestId id, GenerateRequest request,
                              std::shared_ptr<TokenSink> sink) = 0;
  /// Idempotent; unknown ids are ignored. The blocks are free within one step; the sink gets
  /// kCancelled.
  virtual void Cancel(RequestId id) = 0;
  /// Runs between steps, in order. `done` is called on the engine thread.
  virtual void Control(Command command, DoneCallback done) = 0;
  virtual EngineLoad load() const = 0;
  virtual EngineInfo info() const = 0;
  /// Refuses new requests, lets live ones finish for `grace`, then cancels the rest. Returns when
  /// none is live.
  virtual void Drain(absl::Duration grace) = 0;
};

}  // namespace penstock
