#include "server/trace_loop.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/thread_name.h"
#include "server/http_call.h"
#include "server/logging.h"
#include "service/ids.h"

namespace penstock {
namespace {

constexpr size_t kMaxQueued = 2048;  // requests
constexpr size_t kMaxBatch = 256;    // requests of one call
constexpr int kTries = 4;
constexpr absl::Duration kGather = absl::Milliseconds(500);  // for a batch to grow
constexpr absl::Duration kCallTime = absl::Seconds(5);
constexpr absl::Duration kFirstPause = absl::Seconds(1);  // doubled from try to try
constexpr absl::Duration kLastCalls = absl::Seconds(2);

std::string TracesUrl(std::string url) {
  constexpr std::string_view kPath = "/v1/traces";
  while (url.ends_with('/')) url.pop_back();
  if (!url.ends_with(kPath)) url += kPath;
  return url;
}

TraceSource ThisProcess(std::string version) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return {std::move(version), MakeRequestId(), host, getpid()};
}

}  // namespace

TraceLoop::TraceLoop(const Live<ServerConfig>* config, std::string version, TraceMetrics metrics)
    : config_(*config),
      url_(TracesUrl(config->Get()->observe.otlp)),
      source_(ThisProcess(std::move(version))),
      metrics_(metrics),
      thread_([this] { Run(); }) {}

TraceLoop::~TraceLoop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    give_up_ = SystemClock::Get().Now() + kLastCalls;
  }
  changed_.notify_all();
  thread_.join();
}

void TraceLoop::Record(const RequestRecord& record) {
  const absl::Duration slow = config_.Get()->observe.trace_slow;
  const bool is_slow = slow > absl::ZeroDuration() && record.total_time >= slow;
  if (!record.trace_sampled && !is_slow && record.code < 500) return;
  if (record.trace_id.empty()) return;
  TracedRequest traced{record, absl::Now()};
  bool full, first;
  {
    std::lock_guard lock(mutex_);
    full = queue_.size() >= kMaxQueued;
    first = queue_.empty();
    if (!full) queue_.push_back(std::move(traced));
  }
  if (full) return metrics_.dropped.Add(static_cast<double>(NumSpans(record)));
  if (first) changed_.notify_all();
}

bool TraceLoop::Pause(absl::Duration time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, absl::ToChronoMilliseconds(time), [this] { return stopping_; });
}

/// Empty: the server ends and nothing is left.
std::vector<TracedRequest> TraceLoop::NextBatch() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
  }
  Pause(kGather);
  std::lock_guard lock(mutex_);
  const auto end = queue_.begin() + static_cast<ptrdiff_t>(std::min(kMaxBatch, queue_.size()));
  std::vector<TracedRequest> batch(std::make_move_iterator(queue_.begin()),
                                   std::make_move_iterator(end));
  queue_.erase(queue_.begin(), end);
  return batch;
}

void TraceLoop::Run() {
  NameThread("traces");
  while (true) {
    const std::vector<TracedRequest> batch = NextBatch();
    if (batch.empty()) return;
    Deliver(batch);
  }
}

absl::Duration TraceLoop::TimeToSend() const {
  std::lock_guard lock(mutex_);
  return std::clamp(give_up_ - SystemClock::Get().Now(), absl::ZeroDuration(), kCallTime);
}

void TraceLoop::Deliver(const std::vector<TracedRequest>& batch) {
  int64_t spans = 0;
  for (const TracedRequest& request : batch) spans += NumSpans(request.record);
  const std::string body = OtlpBody(source_, batch);
  absl::Duration pause = kFirstPause;
  Answer answer;
  for (int attempt = 0; attempt < kTries; ++attempt, pause *= 2) {
    answer = Post(body, spans);
    if (answer.outcome != Outcome::kLater) break;
    Tell(answer.error);
    if (attempt + 1 < kTries && !Pause(pause)) break;
  }
  Tell(answer.error);
  const int64_t lost = answer.outcome == Outcome::kTaken ? answer.rejected : spans;
  metrics_.failed.Add(static_cast<double>(lost));
  metrics_.sent.Add(static_cast<double>(spans - lost));
}

TraceLoop::Answer TraceLoop::Post(const std::string& body, int64_t spans) const {
  HttpCall call;
  call.url = url_;
  call.body = &body;
  call.timeout = TimeToSend();
  if (call.timeout <= absl::ZeroDuration()) return {Outcome::kLater, 0, "the server ends"};
  call.is_over = [this] { return TimeToSend() <= absl::ZeroDuration(); };
  const absl::StatusOr<HttpReply> reply = CallHttp(call);
  if (!reply.ok()) return {Outcome::kLater, 0, std::string(reply.status().message())};
  const long status = reply->status;
  if (status / 100 == 2) {
    const int64_t rejected = RejectedSpans(reply->body, spans);
    return {Outcome::kTaken, rejected,
            rejected == 0 ? "" : absl::StrCat(rejected, " of ", spans, " spans are not taken")};
  }
  const bool later = status == 429 || status == 502 || status == 503 || status == 504;
  return {later ? Outcome::kLater : Outcome::kRefused, 0, absl::StrCat("HTTP ", status)};
}

void TraceLoop::Tell(const std::string& error) {
  if (complained_ == !error.empty()) return;
  complained_ = !error.empty();
  if (complained_) {
    Log(LogLevel::kWarn, "the collector of traces does not take spans",
        {{"url", url_}, {"error", error}});
  } else {
    Log(LogLevel::kInfo, "the collector of traces takes spans", {{"url", url_}});
  }
}

}  // namespace penstock
