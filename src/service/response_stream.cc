#include "service/response_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"
#include "service/end_metrics.h"
#include "service/ids.h"

namespace penstock {
namespace {

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

std::vector<std::string> ResponseStream::WarningsOf(const Choice& choice, const Usage& usage,
                                                    size_t index) {
  std::vector<std::string> warnings;
  if (choice.finish == FinishReason::kLength && usage.grammar_open) {
    warnings.push_back(absl::StrCat("choices[", index,
                                    "] ended at its limit of tokens before what its schema, "
                                    "grammar or tools ask for was complete"));
  }
  if (choice.reply && choice.reply->num_broken() > 0) {
    warnings.push_back(absl::StrCat("choices[", index, "]: the model broke off ",
                                    choice.reply->num_broken(),
                                    " of its calls: their arguments "
                                    "are not whole, and what followed is content"));
  }
  return warnings;
}

// Keeps the stream alive until its OnDone.
class ResponseStream::ChoiceSink final : public TokenSink {
 public:
  ChoiceSink(std::shared_ptr<ResponseStream> stream, int32_t index)
      : stream_(std::move(stream)), index_(index) {}
  void OnTokens(absl::Span<const SampledToken> tokens) override { stream_->Push(index_, tokens); }
  void OnOutput(const RequestOutput& output) override { stream_->PushOutput(index_, output); }
  void OnDone(FinishReason reason, const Usage& usage, absl::Status status) override {
    DoneEvent done{index_, reason, usage, std::nullopt};
    if (!status.ok()) done.error = ToCallError(status);
    stream_->PushDone(std::move(done));
  }

 private:
  std::shared_ptr<ResponseStream> stream_;
  int32_t index_;
};

ResponseStream::ResponseStream(StreamSetup setup)
    : setup_(std::move(setup)),
      sink_(std::move(setup_.sink)),
      num_pushed_(setup_.num_choices),
      choices_(setup_.num_choices),
      usages_(setup_.num_choices) {
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (setup_.model->tokenizer != nullptr) {
      choices_[i].detokenizer.emplace(setup_.model->tokenizer, setup_.skip_special,
                                      setup_.reply_markers);
    }
    if (!setup_.stop.empty()) choices_[i].matcher.emplace(setup_.stop, setup_.include_stop);
    if (setup_.reply.calls != nullptr || setup_.reply.reasoning != nullptr)
      choices_[i].reply.emplace(setup_.reply, setup_.in_reasoning, setup_.argument_kinds,
                                setup_.one_call, !setup_.record.stream);
    if (!setup_.echo.empty()) choices_[i].text = setup_.echo[i];
    // Engines score what has something before it: the first token goes without.
    if (!setup_.first_prompt_ids.empty())
      choices_[i].prompt_logprobs.push_back({.id = setup_.first_prompt_ids[i], .top = {}});
  }
}

ResponseStream::~ResponseStream() = default;

std::shared_ptr<TokenSink> ResponseStream::MakeSink(int32_t index, RequestId id) {
  std::lock_guard lock(mutex_);
  ids_.push_back(id);
  return std::make_shared<ChoiceSink>(shared_from_this(), index);
}

void ResponseStream::CancelChoices() {
  std::vector<RequestId> ids;
  {
    std::lock_guard lock(mutex_);
    ids = ids_;
  }
  for (RequestId id : ids) setup_.model->engine->Cancel(id);
}

void ResponseStream::Abandon() {
  {
    std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  CancelChoices();
}

void ResponseStream::Cancel(CancelReason reason) {
  {
    std::unique_lock lock(mutex_);
    if (ended_ || cancelled_) return;
    cancelled_ = reason;
    ScheduleIfReady(lock);
  }
  CancelChoices();
}

void ResponseStream::Resume() {
  std::unique_lock lock(mutex_);
  if (!held_) return;
  held_ = false;
  ScheduleIfReady(lock);
}

bool ResponseStream::ReadyLocked() const {
  if (held_ && !cancelled_) return false;
  // Short pieces gain nothing where nobody waits for them: without a stream or stop strings the
  // worker wakes seldom.
  constexpr size_t kBatch = 256;
  const size_t wanted = setup_.record.stream || !setup_.stop.empty() ? 1 : kBatch;
  return inbox_.tokens.size() >= wanted || !inbox_.done.empty();
}

// Releases the lock when it schedules.
void ResponseStream::ScheduleIfReady(std::unique_lock<std::mutex>& lock) {
  if (scheduled_ || abandoned_ || !ReadyLocked()) return;
  scheduled_ = true;
  lock.unlock();
  setup_.loop->Schedule(shared_from_this());
}

void ResponseStream::Push(int32_t choice, absl::Span<const SampledToken> tokens) {
  const absl::Time now = setup_.clock->Now();
  bool overflow = false;
  {
    std::unique_lock lock(mutex_);
    if (abandoned_ || cancelled_) return;
    for (size_t i = 0; i < tokens.size(); ++i) {
      inbox_.tokens.push_back({choice, i == 0, now, tokens[i]});
    }
    // A busy worker may lag further behind than a slow reader may.
    constexpr size_t kLag = 16;
    overflow = inbox_.tokens.size() > setup_.max_pending * (held_ ? 1 : kLag);
    // After a choice's last token its OnDone follows at once: both are one piece.
    num_pushed_[choice] += static_cast<int32_t>(tokens.size());
    const bool last = num_pushed_[choice] >= setup_.max_tokens[choice] ||
                      (!tokens.empty() && Contains(setup_.stop_ids, tokens.back().id));
    if (!overflow && !last) ScheduleIfReady(lock);
  }
  if (overflow) Cancel(CancelReason::kSlowReader);
}

void ResponseStream::PushOutput(int32_t choice, const RequestOutput& output) {
  if (output.kind != OutputKind::kPromptLogprobs) return;
  std::lock_guard lock(mutex_);
  inbox_.prompt_logprobs.emplace_back(choice, output.prompt_logprobs);
}

void ResponseStream::PushDone(DoneEvent done) {
  std::unique_lock lock(mutex_);
  inbox_.done.push_back(std::move(done));
  ScheduleIfReady(lock);
}

void ResponseStream::Run() {
  {
    std::lock_guard lock(mutex_);
    if (!cancelled_ && sink_ != nullptr && sink_->congested()) {
      held_ = true;
      scheduled_ = false;
      return;
    }
    std::swap(inbox_, working_);
  }
  Process(working_);
  working_.tokens.clear();
  working_.done.clear();
  working_.prompt_logprobs.clear();
  std::unique_lock lock(mutex_);
  scheduled_ = false;
  ScheduleIfReady(lock);
}

void ResponseStream::Process(Inbox& inbox) {
  if (sink_ == nullptr) return;
  bool silent;
  {
    std::lock_guard lock(mutex_);
    silent = cancelled_.has_value();
  }
  for (auto& [index, logprobs] : inbox.prompt_logprobs) {
    auto& all = choices_[index].prompt_logprobs;
    std::move(logprobs.begin(), logprobs.end(), std::back_inserter(all));
  }
  if (!silent) {
    for (TokenEvent& event : inbox.tokens) TakeToken(event);
  }
  for (DoneEvent& event : inbox.done) TakeDone(event);
  // Before anything of it is handed out: what a client got is in the book whatever happens then.
  if (first_token_) setup_.usage.CountRequest(setup_.record.usage.prompt_tokens);
  setup_.usage.CountOutput(counted_tokens_);
  MetricsOf(*setup_.model)
      .generation_tokens.Add(static_cast<double>(std::exchange(counted_tokens_, 0)));
  if (!silent && !error_) CollectDeltas();
  if (!deltas_.empty()) sink_->OnDeltas(absl::MakeSpan(deltas_));
  deltas_.clear();
  if (num_ended_ == choices_.size()) End();
}

void ResponseStream::TakeToken(TokenEvent& event) {
  Choice& choice = choices_[event.choice];
  if (choice.finish || error_) return;
  const RequestMetrics& metrics = MetricsOf(*setup_.model);
  if (!first_token_) {
    first_token_ = event.time;
    metrics.time_to_first_token.Observe(absl::ToDoubleSeconds(event.time - setup_.arrival));
  } else if (event.starts_step && choice.completion_tokens > 0) {
    const double gap = absl::ToDoubleSeconds(event.time - choice.last_token);
    metrics.inter_token_latency.Observe(gap);
    metrics.inter_token_latency_fine.Observe(gap);
  }
  choice.last_token = event.time;
  if (setup_.drop_output) return;
  ++choice.completion_tokens;
  if (choice.reply && choice.reply->in_reasoning()) ++choice.reasoning_tokens;
  ++choice.since_delta;
  ++counted_tokens_;
  const TokenId id = event.token.id;
  const bool stops = Contains(setup_.stop_ids, id);
  if (setup_.keep_tokens) choice.tokens.push_back(std::move(event.token));
  if (choice.detokenizer && (!stops || setup_.include_stop))
    AddText(choice, choice.detokenizer->Append(id));
  if (!choice.stop_string.empty() || (choice.reply && choice.reply->over()))
    StopAt(event.choice, FinishReason::kStop);
}

void ResponseStream::AddText(Choice& choice, std::string_view text) {
  if (text.empty() || !choice.stop_string.empty()) return;
  if (!choice.matcher) return AddReply(choice, text);
  StopMatcher::Step step = choice.matcher->Append(text);
  AddReply(choice, step.emit);
  if (step.matched) choice.stop_string = *std::move(step.matched);
}

void ResponseStream::AddReply(Choice& choice, std::string_view text) {
  if (!choice.reply) {
    choice.text.append(text);
    return;
  }
  choice.reply->Append(text, pieces_);
  TakePieces(choice);
}

void ResponseStream::TakePieces(Choice& choice) {
  for (ReplyPiece& piece : pieces_) {
    switch (piece.kind) {
      case ReplyPiece::kContent:
        choice.text += piece.text;
        break;
      case ReplyPiece::kReasoning:
        choice.reasoning += piece.text;
        break;
      case ReplyPiece::kCall:
        choice.calls.push_back(
            {piece.call,
             MakeCallId(setup_.reply.calls->ids, piece.text, setup_.calls_before + piece.call),
             std::move(piece.text), ""});
        break;
      case ReplyPiece::kArguments:
        if (choice.calls.empty() || choice.calls.back().index != piece.call)
          choice.calls.push_back({piece.call, "", "", ""});
        choice.calls.back().arguments += piece.text;
        break;
    }
  }
  pieces_.clear();
}

// A stop string was found: the engine need not go on.
void ResponseStream::StopAt(int32_t index, FinishReason reason) {
  choices_[index].finish = reason;
  RequestId id;
  {
    std::lock_guard lock(mutex_);
    id = ids_[index];
  }
  setup_.model->engine->Cancel(id);
}

// The end of a choice: what was held back leaves.
void ResponseStream::FlushText(Choice& choice) {
  if (choice.detokenizer) AddText(choice, choice.detokenizer->Finish());
  if (choice.matcher && choice.stop_string.empty()) AddReply(choice, choice.matcher->Finish());
}

void ResponseStream::TakeDone(DoneEvent& event) {
  ++num_ended_;
  Choice& choice = choices_[event.choice];
  usages_[event.choice] = event.usage;
  if (choice.finish || error_) return;
  last_reason_ = event.reason;
  bool cancelled;
  {
    std::lock_guard lock(mutex_);
    cancelled = cancelled_.has_value();
  }
  switch (event.reason) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      FlushText(choice);
      choice.finish = choice.stop_string.empty() ? event.reason : FinishReason::kStop;
      if (setup_.drop_output) choice.finish = FinishReason::kLength;
      if (choice.stop_string.empty() && event.reason == FinishReason::kStop &&
          Contains(setup_.reported_stop_ids, event.usage.stop_token)) {
        choice.stop_token = event.usage.stop_token;
      }
      return;
    case FinishReason::kCancelled:
      if (!cancelled) Fail({absl::StatusCode::kUnavailable, "the server is shutting down", ""});
      return;
    case FinishReason::kDeadline:
      return Fail(event.error.value_or(CallError{absl::StatusCode::kDeadlineExceeded,
                                                 "the deadline of the request has passed", ""}));
    case FinishReason::kError:
      return Fail(
          event.error.value_or(CallError{absl::StatusCode::kInternal, "the engine failed", ""}));
  }
}

void ResponseStream::Fail(CallError error) {
  error_ = std::move(error);
  if (num_ended_ < choices_.size()) CancelChoices();
}

void ResponseStream::CollectDeltas() {
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    if (choice.finish_sent) continue;
    if (choice.finish && choice.reply) {
      choice.reply->Finish(*choice.finish == FinishReason::kLength, pieces_);
      TakePieces(choice);
      MetricsOf(*setup_.model).failed_calls.Add(choice.reply->num_failed());
    }
    const bool has_content = !choice.text.empty() || !choice.tokens.empty() ||
                             !choice.reasoning.empty() || !choice.calls.empty();
    if (!choice.finish && (!has_content || choice.since_delta < setup_.interval)) continue;
    Delta delta;
    delta.index = static_cast<int32_t>(i);
    delta.text = std::exchange(choice.text, {});
    delta.reasoning = std::exchange(choice.reasoning, {});
    delta.calls = std::exchange(choice.calls, {});
    if (choice.reply) delta.num_calls = choice.reply->num_calls() - choice.reply->num_broken();
    delta.tokens = std::exchange(choice.tokens, {});
    delta.prompt_logprobs = std::exchange(choice.prompt_logprobs, {});
    delta.completion_tokens = choice.completion_tokens;
    if (choice.finish) {
      delta.finish = choice.finish;
      delta.stop_token = choice.stop_token;
      delta.stop_string = choice.stop_string;
      delta.warnings = WarningsOf(choice, usages_[i], i);
      choice.finish_sent = true;
    }
    choice.since_delta = 0;
    deltas_.push_back(std::move(delta));
  }
}

}  // namespace penstock
