#include "measure/offline_run.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr auto kProgressPeriod = std::chrono::milliseconds(200);

/// What all requests come to; each of its requests has one sink.
class OfflineTotals {
 public:
  OfflineTotals(int64_t total, const StepProgress& progress) : total_(total), progress_(progress) {}

  void Token() {
    const std::lock_guard lock(mutex_);
    if (!first_.has_value()) first_ = SteadyClock::now();
  }
  void Done(FinishReason reason, const Usage& usage) {
    const std::lock_guard lock(mutex_);
    const bool ok = reason == FinishReason::kLength || reason == FinishReason::kStop;
    ++(ok ? result_.num_ok : result_.num_failed);
    result_.prompt_tokens += usage.prompt_tokens;
    result_.cached_tokens += usage.cached_tokens;
    result_.output_tokens += usage.completion_tokens;
    changed_.notify_all();
  }
  /// Until all but `most` of `submitted` are done.
  void Wait(int64_t submitted, int64_t most) {
    std::unique_lock lock(mutex_);
    const auto few = [&] { return submitted - result_.num_ok - result_.num_failed <= most; };
    while (!changed_.wait_for(lock, kProgressPeriod, few)) {
      if (!progress_) continue;
      const int64_t done = result_.num_ok + result_.num_failed;
      lock.unlock();
      progress_(done, total_);
      lock.lock();
    }
  }
  OfflineResult Take(SteadyClock::time_point begin) {
    const std::lock_guard lock(mutex_);
    const auto since = [&](SteadyClock::time_point t) {
      return std::chrono::duration<double>(t - begin).count();
    };
    result_.seconds = since(SteadyClock::now());
    result_.first_seconds = first_.has_value() ? since(*first_) : 0;
    return result_;
  }

 private:
  const int64_t total_;
  const StepProgress& progress_;
  std::mutex mutex_;
  std::condition_variable changed_;
  OfflineResult result_;
  std::optional<SteadyClock::time_point> first_;
};

class OfflineSink final : public TokenSink {
 public:
  explicit OfflineSink(OfflineTotals* totals) : totals_(*totals) {}
  void OnTokens(absl::Span<const SampledToken>) override { totals_.Token(); }
  void OnOutput(const RequestOutput&) override {}
  void OnDone(FinishReason reason, const Usage& usage, absl::Status) override {
    totals_.Done(reason, usage);
  }

 private:
  OfflineTotals& totals_;
};

std::vector<TokenId> OfflinePrompt(const OfflineOptions& options, int32_t vocab, int32_t index) {
  std::mt19937_64 shared(options.seed), own(options.seed + 1 + static_cast<uint64_t>(index));
  std::vector<TokenId> ids;
  for (int32_t i = 0; i < options.prompt_tokens; ++i) {
    std::mt19937_64& random = i < options.shared_tokens ? shared : own;
    ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)));
  }
  return ids;
}

}  // namespace

absl::StatusOr<OfflineResult> RunOffline(Engine& engine, const OfflineOptions& options,
                                         const StepProgress& progress) {
  const EngineInfo info = engine.info();
  if (options.prompt_tokens + options.output_tokens > info.max_context) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt and output: ", options.prompt_tokens + options.output_tokens,
                     " tokens, expected at most ", info.max_context));
  }
  OfflineTotals totals(options.requests, progress);
  if (progress) progress(0, options.requests);
  const auto begin = SteadyClock::now();
  for (int32_t i = 0; i < options.requests; ++i) {
    GenerateRequest request;
    request.prompt = OfflinePrompt(options, info.vocab_size, i);
    request.max_tokens = options.output_tokens;
    request.sampling.temperature = 0;
    const GenerateRequest copy = request;
    absl::Status status =
        engine.Submit(RequestId(i + 1), std::move(request), std::make_shared<OfflineSink>(&totals));
    // A full queue: as many go in as come out.
    for (int64_t most = i - 1; absl::IsResourceExhausted(status) && most >= 0; --most) {
      totals.Wait(i, most);
      status = engine.Submit(RequestId(i + 1), copy, std::make_shared<OfflineSink>(&totals));
    }
    if (!status.ok()) {
      totals.Wait(i, 0);  // sinks point here
      return status;
    }
  }
  totals.Wait(options.requests, 0);
  return totals.Take(begin);
}

absl::Status RunOfflineRounds(
    Engine& engine, const OfflineOptions& options, int rounds,
    const std::function<void(int round, const OfflineResult& result)>& show,
    const StepProgress& progress) {
  for (int round = 0; round < rounds; ++round) {
    OfflineOptions one = options;
    one.seed += static_cast<uint64_t>(round) * 1000003;  // nothing of before is cached
    ASSIGN_OR_RETURN(const OfflineResult result, RunOffline(engine, one, progress));
    show(round, result);
    if (result.num_failed > 0)
      return absl::InternalError(absl::StrCat(result.num_failed, " requests failed"));
  }
  return absl::OkStatus();
}

}  // namespace penstock
