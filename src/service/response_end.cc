// The end of a stream: the last word to the sink, the metrics and the log line of the request.
#include <algorithm>
#include <utility>

#include "metrics/catalogue.h"
#include "service/call_error.h"
#include "service/end_metrics.h"
#include "service/response_stream.h"

namespace penstock {

void ResponseStream::End() {
  std::optional<CancelReason> cancelled;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    cancelled = cancelled_;
  }
  const RequestMetrics& metrics = MetricsOf(*setup_.model);
  const double choices = static_cast<double>(choices_.size());
  RequestRecord record = setup_.record;
  FillRecord(record);
  // A client that leaves pays for the prompt; one that the server failed before the first token for
  // nothing.
  const bool billed = first_token_ || !error_;
  const auto discount = static_cast<int64_t>((1 - setup_.cached_price) *
                                             static_cast<double>(record.usage.cached_tokens));
  if (billed) {
    setup_.usage.CountRequest(record.usage.prompt_tokens);
    setup_.usage.CountCached(record.usage.cached_tokens);
    setup_.usage.Discount(discount);
  }
  // The model that is asked next takes a request of its own.
  const bool asked_elsewhere =
      !billed && !cancelled && setup_.others_follow && IsServerFailure(*error_);
  if (asked_elsewhere) setup_.reservation.reset();
  if (setup_.reservation != nullptr)
    setup_.reservation->Settle(
        billed ? record.usage.prompt_tokens - discount + record.usage.completion_tokens : 0);
  if (cancelled || error_) {
    RecordFailure(cancelled, error_, choices, metrics, record);
  } else {
    for (const Choice& choice : choices_) {
      const bool stopped = choice.finish == FinishReason::kStop;
      record.finish = stopped ? "stop" : "length";
      (stopped ? metrics.success_stop : metrics.success_length).Add();
    }
  }
  // A request that was given up before its first token has told its client nothing.
  if (first_token_ || (!cancelled && !error_))
    metrics.CountPrompt(record.usage.prompt_tokens, record.usage.cached_tokens);
  if (!cancelled && !error_) ObserveEnd(record);
  RequestLog* const log = setup_.call_log != nullptr ? setup_.call_log.get() : setup_.log;
  if (log != nullptr) log->Record(record);
  const std::shared_ptr<ResponseSink> sink = std::exchange(sink_, nullptr);
  if (cancelled) error_ = ErrorOf(*cancelled);
  sink->OnEnd({error_, record.usage});
}

void ResponseStream::FillRecord(RequestRecord& record) const {
  record.num_choices = setup_.num_choices;
  for (size_t i = 0; i < choices_.size(); ++i) {
    record.usage.completion_tokens += choices_[i].completion_tokens;
    record.usage.reasoning_tokens += choices_[i].reasoning_tokens;
    // The copies of one prompt find each other's blocks; only what the first of them found was
    // there before.
    if (i % std::max(1, setup_.params_n) == 0)
      record.usage.cached_tokens += usages_[i].cached_tokens;
    record.queue_time = std::max(record.queue_time, usages_[i].queue_time);
    record.prefill_time = std::max(record.prefill_time, usages_[i].prefill_time);
    record.decode_time = std::max(record.decode_time, usages_[i].decode_time);
  }
  if (first_token_) record.first_token_time = *first_token_ - setup_.arrival;
  record.total_time = setup_.clock->Now() - setup_.arrival;
}

void ResponseStream::ObserveEnd(const RequestRecord& record) const {
  const RequestMetrics& metrics = MetricsOf(*setup_.model);
  int64_t longest = 0;
  for (size_t i = 0; i < choices_.size(); ++i) {
    const int64_t tokens = choices_[i].completion_tokens;
    longest = std::max(longest, tokens);
    const Usage& usage = usages_[i];
    metrics.request_generation_tokens.Observe(static_cast<double>(tokens));
    metrics.queue_time.Observe(absl::ToDoubleSeconds(usage.queue_time));
    metrics.prefill_time.Observe(absl::ToDoubleSeconds(usage.prefill_time));
    metrics.decode_time.Observe(absl::ToDoubleSeconds(usage.decode_time));
    metrics.inference_time.Observe(absl::ToDoubleSeconds(usage.prefill_time + usage.decode_time));
    if (tokens > 1) {
      metrics.time_per_output_token.Observe(absl::ToDoubleSeconds(usage.decode_time) /
                                            static_cast<double>(tokens - 1));
    }
  }
  metrics.e2e_latency.Observe(absl::ToDoubleSeconds(record.total_time));
  metrics.request_prompt_tokens.Observe(static_cast<double>(record.usage.prompt_tokens));
  metrics.max_num_generation_tokens.Observe(static_cast<double>(longest));
  metrics.params_max_tokens.Observe(
      *std::max_element(setup_.max_tokens.begin(), setup_.max_tokens.end()));
  metrics.params_n.Observe(setup_.params_n);
}

}  // namespace penstock
