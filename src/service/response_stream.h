// One call's answer on its way out: tokens of its choices -> text, stop strings, counts -> deltas.
// Owns the tokens not yet processed (bounded) and the text state of each choice. Must not know JSON
// or sockets.
// Threads: sinks on the engine thread; Run on one text worker at a time; Cancel and Resume from any
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "ledger/usage_book.h"
#include "penstock/service.h"
#include "service/running_call.h"
#include "service/tenant_limits.h"
#include "service/text_loop.h"
#include "text/detokenizer.h"
#include "text/reply/reply_parser.h"
#include "text/stop_matcher.h"

namespace penstock {

/// What a stream needs to know of its call.
struct StreamSetup {
  std::shared_ptr<const ServedModel> model;
  std::shared_ptr<ResponseSink> sink;
  TextLoop* loop = nullptr;
  const Clock* clock = nullptr;
  std::shared_ptr<RequestLog> call_log;  // of this call alone; null: `log`
  RequestLog* log = nullptr;             // null: not logged
  absl::Time arrival;
  RequestRecord record;  // ids and prompt tokens are set, the rest is filled at the end
  int32_t num_choices = 1;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_ids;           // all that end a choice
  std::vector<int32_t> max_tokens;         // per choice
  std::vector<TokenId> reported_stop_ids;  // the client's own: named as stop reason
  bool include_stop = false;
  bool skip_special = true;
  ReplyFormat reply;                                    // what is kept apart from the text
  std::shared_ptr<const ArgumentKinds> argument_kinds;  // of reply.calls
  int64_t calls_before = 0;                             // in the chat: ids count on from them
  bool in_reasoning = false;                            // the prompt began it
  bool may_reason = true;                               // the prompt did not end it
  bool one_call = false;                                // a choice ends behind its first
  std::vector<TokenId> reply_markers;                   // special tokens that `reply` needs to see
  bool keep_tokens = false;                             // deltas carry the tokens
  bool drop_output = false;                             // only the echo is wanted
  int64_t interval = 1;                                 // tokens per delta
  size_t max_pending = 16384;                           // tokens that wait for a slow reader
  std::vector<std::string> echo;          // per choice: goes before its text; empty: none
  std::vector<TokenId> first_prompt_ids;  // per choice, where the prompt's log-probs are wanted
  int32_t params_n = 1;
  std::shared_ptr<TenantLimits::Reservation> reservation;  // settled at the end; null: no limits
  bool others_follow = false;  // another model is asked where this one fails before its first word
  double cached_price = 1;     // of a cached prompt token, in what is settled
  UsageMeter usage;            // of the tenant
};

class ResponseStream final : public TextTask,
                             public RunningCall,
                             public std::enable_shared_from_this<ResponseStream> {
 public:
  explicit ResponseStream(StreamSetup setup);
  ~ResponseStream() override;

  /// The sink to submit choice `index` with under `id`.
  std::shared_ptr<TokenSink> MakeSink(int32_t index, RequestId id);
  /// Submission failed: cancels the choices that run already; the ResponseSink hears nothing more.
  void Abandon();
  /// The client is gone, or must go: frees the blocks within one step; no more deltas, then an
  /// OnEnd that says so. Idempotent.
  void Cancel(CancelReason reason) override;
  /// The client reads again.
  void Resume() override;

  void Run() override;

 private:
  class ChoiceSink;

  struct TokenEvent {
    int32_t choice = 0;
    bool starts_step = false;  // the first of its OnTokens
    absl::Time time;
    SampledToken token;
  };
  struct DoneEvent {
    int32_t choice = 0;
    FinishReason reason = FinishReason::kStop;
    Usage usage;
    std::optional<CallError> error;
  };
  struct Inbox {
    std::vector<TokenEvent> tokens;
    std::vector<DoneEvent> done;
    std::vector<std::pair<int32_t, std::vector<SampledToken>>> prompt_logprobs;
  };
  struct Choice {
    std::optional<Detokenizer> detokenizer;
    std::optional<StopMatcher> matcher;
    std::optional<ReplyParser> reply;
    std::string text;              // ready, not yet in a delta
    std::string reasoning;         // likewise
    std::vector<CallDelta> calls;  // likewise
    int64_t reasoning_tokens = 0;
    std::vector<SampledToken> tokens;  // the same
    std::vector<SampledToken> prompt_logprobs;
    int64_t completion_tokens = 0;
    int64_t since_delta = 0;             // tokens
    std::optional<FinishReason> finish;  // set: nothing more is taken
    TokenId stop_token = -1;
    std::string stop_string;
    bool finish_sent = false;
    absl::Time last_token;
  };

  void Push(int32_t choice, absl::Span<const SampledToken> tokens);
  void PushOutput(int32_t choice, const RequestOutput& output);
  void PushDone(DoneEvent done);
  bool ReadyLocked() const;
  void ScheduleIfReady(std::unique_lock<std::mutex>& lock);
  void CancelChoices();

  // On the text worker.
  void Process(Inbox& inbox);
  void TakeToken(TokenEvent& event);
  void TakeDone(DoneEvent& event);
  void AddText(Choice& choice, std::string_view text);
  void AddReply(Choice& choice, std::string_view text);
  void TakePieces(Choice& choice);
  void FlushText(Choice& choice);
  void StopAt(int32_t index, FinishReason reason);
  void CollectDeltas();
  static std::vector<std::string> WarningsOf(const Choice& choice, const Usage& usage,
                                             size_t index);
  void Fail(CallError error);
  void End();
  void FillRecord(RequestRecord& record) const;
  void ObserveEnd(const RequestRecord& record) const;

  StreamSetup setup_;                   // not changed after construction
  std::shared_ptr<ResponseSink> sink_;  // text worker only; null once ended

  std::mutex mutex_;  // guards from here
  Inbox inbox_;
  std::vector<RequestId> ids_;       // of submitted choices
  std::vector<int32_t> num_pushed_;  // tokens per choice
  bool scheduled_ = false;
  bool held_ = false;  // the reader is slow
  bool abandoned_ = false;
  bool ended_ = false;
  std::optional<CancelReason> cancelled_;  // to here

  Inbox working_;  // text worker only, from here
  std::vector<Choice> choices_;
  std::vector<Delta> deltas_;
  std::vector<ReplyPiece> pieces_;
  std::vector<Usage> usages_;
  std::optional<CallError> error_;
  size_t num_ended_ = 0;        // DoneEvents taken
  int64_t counted_tokens_ = 0;  // of this pass
  std::optional<absl::Time> first_token_;
  FinishReason last_reason_ = FinishReason::kStop;
};

}  // namespace penstock
