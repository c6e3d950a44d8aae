// An engine without a model: gives each request scripted tokens, one per step, by hand or on a
// thread of its own.
// Owns what is live. Must not know text or the wire.
// Threads: thread-safe; sinks are called by whoever calls Step, or on the own thread after Start.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "fakes/patience.h"
#include "penstock/engine.h"

namespace penstock {

/// As EngineLoad has it.
inline std::shared_ptr<const std::vector<WaitingLoad>> Waiting(std::vector<WaitingLoad> levels) {
  return std::make_shared<const std::vector<WaitingLoad>>(std::move(levels));
}

class FakeEngine final : public Engine {
 public:
  /// What a request is answered with; shorter than max_tokens: it ends with kStop, by its last
  /// token if that is a stop id.
  using Script = std::function<std::vector<TokenId>(const GenerateRequest&)>;

  explicit FakeEngine(Script script = Repeat, const Clock* clock = &SystemClock::Get())
      : script_(std::move(script)), clock_(clock) {}
  ~FakeEngine() override { StopThread(); }

  /// The prompt over and over, max_tokens long.
  static std::vector<TokenId> Repeat(const GenerateRequest& request) {
    std::vector<TokenId> out;
    for (int32_t i = 0; i < request.max_tokens; ++i)
      out.push_back(request.prompt[i % request.prompt.size()]);
    return out;
  }
  /// Always these.
  static Script Always(std::vector<TokenId> tokens) {
    return [tokens = std::move(tokens)](const GenerateRequest&) { return tokens; };
  }

  absl::Status Submit(RequestId id, GenerateRequest request,
                      std::shared_ptr<TokenSink> sink) override {
    std::lock_guard lock(mutex_);
    if (!submit_status_.ok()) return submit_status_;
    if (live_.size() >= max_live_) return absl::ResourceExhaustedError("the queue is full");
    submitted_.push_back(request);
    Live live{std::move(sink), script_(request), std::move(request)};
    live_.emplace(id, std::move(live));
    ++num_submitted_;
    changed_.notify_all();
    return absl::OkStatus();
  }
  void Cancel(RequestId id) override {
    std::lock_guard lock(mutex_);
    const auto it = live_.find(id);
    if (it == live_.end()) return;
    it->second.cancelled = true;
    ++num_cancelled_;
    changed_.notify_all();
  }
  void Control(Command command, DoneCallback done) override {
    {
      std::lock_guard lock(mutex_);
      commands_.push_back(command);
      if (holds_unloads_ && command.kind == CommandKind::kUnloadAdapter) {
        held_.push_back(std::move(done));
        return;
      }
    }
    done(absl::OkStatus());
  }
  std::vector<Command> commands() const {
    std::lock_guard lock(mutex_);
    return commands_;
  }
  /// Unloads wait, as for requests that run, until ReportUnloads.
  void HoldUnloads() {
    std::lock_guard lock(mutex_);
    holds_unloads_ = true;
  }
  void ReportUnloads() {
    std::vector<DoneCallback> held;
    {
      std::lock_guard lock(mutex_);
      held = std::exchange(held_, {});
    }
    for (const DoneCallback& done : held) done(absl::OkStatus());
  }
  EngineLoad load() const override {
    std::lock_guard lock(mutex_);
    EngineLoad load = queue_;
    load.num_running = static_cast<int32_t>(live_.size());
    load.healthy = healthy_;
    return load;
  }
  /// What waits, as `load` is to say.
  void set_queue(EngineLoad queue) {
    std::lock_guard lock(mutex_);
    queue_ = std::move(queue);
  }
  EngineInfo info() const override {
    return {.max_context = 4096, .vocab_size = 512, .block_size = 16, .num_blocks = 64};
  }
  void Drain(absl::Duration) override {}

  /// One step: every live request gets one token, or its end. False where nothing was live.
  bool Step() {
    std::vector<std::pair<RequestId, Live*>> all;
    {
      std::lock_guard lock(mutex_);
      for (auto& [id, live] : live_) all.emplace_back(id, &live);  // map nodes stay where they are
    }
    for (auto& [id, live] : all) {
      const bool ended = Advance(*live);
      if (!ended) continue;
      std::shared_ptr<TokenSink> sink;  // dropped outside the lock
      std::lock_guard lock(mutex_);
      sink = std::move(live->sink);
      live_.erase(id);
      changed_.notify_all();
    }
    return !all.empty();
  }
  void StepUntilIdle() {
    while (Step()) {
    }
  }
  /// Steps on a thread of its own while requests are live.
  void Start() {
    thread_ = std::thread([this] {
      while (true) {
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [this] { return stopping_ || (!live_.empty() && !paused_); });
          if (stopping_) return;
        }
        Step();
      }
    });
  }
  void Pause(bool paused) {
    std::lock_guard lock(mutex_);
    paused_ = paused;
    changed_.notify_all();
  }
  /// Waits until `done(num_submitted, num_live)` holds; false after kPatience.
  bool WaitFor(const std::function<bool(size_t num_submitted, size_t num_live)>& done) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return done(num_submitted_, live_.size()); });
  }

  /// What requests for a vector get; before the first request.
  void set_hidden(std::function<std::vector<float>(const GenerateRequest&)> hidden) {
    hidden_ = std::move(hidden);
  }
  void set_submit_status(absl::Status status) {
    std::lock_guard lock(mutex_);
    submit_status_ = std::move(status);
  }
  /// So many tokens of each prompt were in the cache. Before the first request.
  void set_cached_tokens(int32_t tokens) { cached_tokens_ = tokens; }
  void set_max_live(size_t max_live) { max_live_ = max_live; }
  void set_healthy(bool healthy) {
    std::lock_guard lock(mutex_);
    healthy_ = healthy;
  }
  /// Every live request ends with this fault at the next step.
  void set_fault(absl::Status fault) {
    std::lock_guard lock(mutex_);
    fault_ = std::move(fault);
  }
  std::vector<GenerateRequest> submitted() const {
    std::lock_guard lock(mutex_);
    return submitted_;
  }
  size_t num_cancelled() const {
    std::lock_guard lock(mutex_);
    return num_cancelled_;
  }
  size_t num_live() const {
    std::lock_guard lock(mutex_);
    return live_.size();
  }

 private:
  struct Live {
    std::shared_ptr<TokenSink> sink;
    std::vector<TokenId> script;
    GenerateRequest request;
    size_t given = 0;
    bool cancelled = false;
  };

  bool Advance(Live& live) {
    Usage usage;
    usage.prompt_tokens = static_cast<int32_t>(live.request.prompt.size());
    usage.cached_tokens = cached_tokens_;
    usage.completion_tokens = static_cast<int32_t>(live.given);
    usage.decode_time = absl::Milliseconds(1);
    absl::Status fault;
    bool cancelled;
    {
      std::lock_guard lock(mutex_);
      fault = fault_;
      cancelled = live.cancelled;
    }
    if (cancelled) return End(live, FinishReason::kCancelled, usage, absl::OkStatus());
    if (!fault.ok()) return End(live, FinishReason::kError, usage, fault);
    const absl::Time now = clock_->Now();
    const bool first_late = live.given == 0 && live.request.first_token_deadline &&
                            now > *live.request.first_token_deadline;
    if (first_late || (live.request.deadline && now > *live.request.deadline)) {
      return End(live, FinishReason::kDeadline, usage,
                 absl::DeadlineExceededError("the deadline has passed"));
    }
    if (live.request.output == OutputKind::kHidden) {
      RequestOutput output;
      output.kind = OutputKind::kHidden;
      if (hidden_) output.hidden = hidden_(live.request);
      live.sink->OnOutput(output);
      return End(live, FinishReason::kStop, usage, absl::OkStatus());
    }
    if (live.given < live.script.size()) {
      if (live.given == 0 && live.request.output == OutputKind::kPromptLogprobs)
        GivePromptLogprobs(live);
      SampledToken token;
      token.id = live.script[live.given++];
      if (live.request.sampling.num_logprobs >= 0) {
        token.logprob = -0.5f;
        token.rank = 1;
        for (int32_t k = 0; k < live.request.sampling.num_logprobs; ++k)
          token.top.push_back({k + 65, -0.5f - k, k + 1});
      }
      live.sink->OnTokens({&token, 1});
    }
    usage.completion_tokens = static_cast<int32_t>(live.given);
    if (live.given < live.script.size() &&
        live.given < static_cast<size_t>(live.request.max_tokens))
      return false;
    const auto& stops = live.request.stop_token_ids;
    if (live.given > 0 &&
        std::find(stops.begin(), stops.end(), live.script[live.given - 1]) != stops.end()) {
      usage.stop_token = live.script[live.given - 1];
    }
    const bool full =
        live.given >= static_cast<size_t>(live.request.max_tokens) && usage.stop_token < 0;
    return End(live, full ? FinishReason::kLength : FinishReason::kStop, usage, absl::OkStatus());
  }
  void GivePromptLogprobs(Live& live) {
    RequestOutput output;
    output.kind = OutputKind::kPromptLogprobs;
    output.begin = 1;  // nothing is before the first token
    for (size_t i = 1; i < live.request.prompt.size(); ++i) {
      SampledToken token;
      token.id = live.request.prompt[i];
      token.logprob = -1.5f;
      token.rank = 2;
      for (TokenId top = 0; top < live.request.num_prompt_logprobs; ++top)
        token.top.push_back({.id = top, .logprob = -1.0f, .rank = top + 1});
      output.prompt_logprobs.push_back(token);
    }
    live.sink->OnOutput(output);
  }
  static bool End(Live& live, FinishReason reason, const Usage& usage, absl::Status status) {
    live.sink->OnDone(reason, usage, std::move(status));
    return true;
  }
  void StopThread() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

  const Script script_;
  const Clock* const clock_;
  std::function<std::vector<float>(const GenerateRequest&)> hidden_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<RequestId, Live> live_;
  std::vector<GenerateRequest> submitted_;
  std::vector<Command> commands_;
  std::vector<DoneCallback> held_;
  bool holds_unloads_ = false;
  absl::Status submit_status_, fault_;
  size_t max_live_ = 1000000;
  int32_t cached_tokens_ = 0;
  size_t num_submitted_ = 0, num_cancelled_ = 0;
  bool stopping_ = false, paused_ = false, healthy_ = true;
  EngineLoad queue_;
  std::thread thread_;
};

}  // namespace penstock
