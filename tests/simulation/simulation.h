// A simulated life of the real engine over a fake executor and clock: seeded arrivals, cancels,
// deadlines, preemptions, adapters that come and go.
// Owns engine and clock. Must not know which scenarios there are.
// Threads: confined to one thread.
#pragma once

#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "base/sanitizers.h"
#include "engine/engine_loop.h"
#include "fakes/fake_executor.h"
#include "gtest/gtest.h"

namespace penstock {

struct Scenario {
  const char* name;
  QueuePolicy policy;
  int32_t depth;
  std::vector<CacheGroup> groups;
  bool prefix_cache;
  int32_t num_requests;
  bool drafts = false;
  double most_unverified = 1.0 / 8;
  bool draft_model = false;
  int32_t max_adapters = 0;
  bool tier = false;  // a second one of the prefix cache, which is reset at times
};

constexpr int32_t kBlock = 16;
constexpr int32_t kContext = 320;

inline CacheGroup Full(int32_t blocks) { return {CacheRetention::kFull, 0, 1024, blocks}; }
inline CacheGroup Window(int32_t window, int32_t blocks) {
  return {CacheRetention::kWindow, window, 1024, blocks};
}
inline CacheGroup WithTier(CacheGroup group, int32_t places) {
  group.tier_blocks = places;
  return group;
}
inline CacheGroup DraftModel(int32_t blocks) { return {CacheRetention::kDraft, 0, 256, blocks}; }
inline CacheGroup State(int32_t snapshots) {
  return {CacheRetention::kRecurrent, 0, 1024, snapshots};
}

class Simulation {
 public:
  Simulation(const Scenario& scenario, uint64_t seed) : scenario_(scenario), random_(seed) {
    limits_.groups = scenario.groups;
    limits_.block_size = kBlock;
    limits_.num_slots = 12;
    limits_.pipeline_depth = scenario.depth;
    limits_.max_step_tokens = 64;
    limits_.max_context = kContext;
    limits_.vocab_size = 500;
    limits_.max_model_drafts = scenario.draft_model ? 4 : 0;
    limits_.max_adapters = scenario.max_adapters;
    EngineOptions options;
    options.scheduler.speculation.ngram = scenario.drafts && !scenario.draft_model;
    options.scheduler.speculation.min_match = 2;
    options.scheduler.speculation.most_unverified = scenario.most_unverified;
    options.scheduler.policy = scenario.policy;
    options.scheduler.prefix_cache = scenario.prefix_cache;
    options.max_queue = 40;
    options.clock = &clock_;
    auto executor = std::make_unique<FakeExecutor>(limits_);
    executor_ = executor.get();
    engine_ = std::make_unique<EngineLoop>(std::move(executor), options);
  }

  void Run() {
    int idle_turns = 0;
    while (num_done_ < scenario_.num_requests) {
      while (num_submitted_ < scenario_.num_requests && Chance(num_live() < 30 ? 0.5 : 0.02))
        Arrive();
      if (Chance(0.03)) CancelOne();
      if (scenario_.max_adapters > 0 && adapters_.size() < 5 && Chance(0.05)) LoadAdapter();
      if (Chance(0.04)) UnloadAdapter();
      if (scenario_.tier && Chance(0.002)) ResetCache();
      clock_.Advance(absl::Milliseconds(5));
      ++turn_;
      const bool worked = engine_->RunOnce();
      idle_turns = worked || num_live() == 0 ? 0 : idle_turns + 1;
      ASSERT_LT(idle_turns, 3) << "nothing moves though requests are live, turn " << turn_;
      Reap();
      if (HasFatalFailure()) return;
    }
    while (engine_->RunOnce()) {
    }
    EXPECT_EQ(num_unloaded_, num_retired_);
    EXPECT_EQ(engine_->load().num_running, 0);
    EXPECT_EQ(engine_->load().num_waiting, 0);
    for (size_t g = 0; g < limits_.groups.size(); ++g) {
      EXPECT_EQ(engine_->scheduler().tables().pool(g).num_held(), 0)
          << "blocks leaked in group " << g;
    }
    EXPECT_EQ(engine_->scheduler().tables().tier().num_held(), 0) << "places leaked";
    EXPECT_EQ(engine_->scheduler().counters().num_finished, num_accepted_);
  }

  const CacheTier& tier() const { return engine_->scheduler().tables().tier(); }
  int64_t num_imported() const { return executor_->num_imported; }
  const SchedulerCounters& counters() const { return engine_->scheduler().counters(); }
  int num_cancelled() const { return num_cancelled_; }
  int num_expired() const { return num_expired_; }
  int num_refused() const { return num_refused_; }
  int num_unloaded() const { return num_unloaded_; }
  int num_held_back() const { return num_held_back_; }

 private:
  struct Live {
    RequestId id;
    GenerateRequest request;
    std::shared_ptr<RecordingSink> sink;
    int64_t submitted_turn;
    int64_t patience;  // turns after which it counts as starved
    bool cancelled = false;
  };

  bool Chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  int32_t Between(int32_t lo, int32_t hi) {
    return std::uniform_int_distribution<int32_t>(lo, hi)(random_);
  }
  int num_live() const { return static_cast<int>(live_.size()); }
  static bool HasFatalFailure() { return testing::Test::HasFatalFailure(); }

  void LoadAdapter() {
    const AdapterId id(next_adapter_++);
    engine_->Control({.kind = CommandKind::kLoadAdapter, .adapter = id, .path = ""},
                     [](const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; });
    adapters_.push_back(id);  // messages are read in order
  }

  void ResetCache() {
    engine_->Control({.kind = CommandKind::kResetCache, .adapter = kNoAdapter, .path = ""},
                     [](const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; });
  }

  /// Those who name it go on, and it goes when the last of them has ended.
  void UnloadAdapter() {
    if (adapters_.empty()) return;
    const size_t index = Between(0, static_cast<int32_t>(adapters_.size()) - 1);
    const AdapterId id = adapters_[index];
    adapters_.erase(adapters_.begin() + index);
    ++num_retired_;
    for (const Live& live : live_) {
      if (live.request.adapter != id || live.sink->done) continue;
      ++num_held_back_;
      break;
    }
    engine_->Control({.kind = CommandKind::kUnloadAdapter, .adapter = id, .path = ""},
                     [this, id](const absl::Status& status) {
                       ASSERT_TRUE(status.ok()) << status;
                       ++num_unloaded_;
                       for (const Live& live : live_)
                         ASSERT_TRUE(live.request.adapter != id || live.sink->done);
                     });
  }

  void Arrive() {
    GenerateRequest request;
    if (Chance(0.6)) {  // one of a few long prefixes, so that sharing and joining happen
      std::mt19937 prefix(Between(0, 5));
      request.prompt.resize(Between(1, 8) * 20);
      for (TokenId& id : request.prompt) id = prefix() % 500;
    }
    for (int32_t n = Between(request.prompt.empty() ? 1 : 0, 40); n > 0; --n)
      request.prompt.push_back(Between(0, 499));
    request.max_tokens =
        Between(1, kContext - static_cast<int32_t>(request.prompt.size()) > 100 ? 100 : 20);
    request.priority = Between(-1, 1);
    request.stop_token_ids = {7, 8, 9, 10};
    if (Chance(0.2)) request.cache_salt = "other";
    if (!adapters_.empty() && Chance(0.7))
      request.adapter = adapters_[Between(0, static_cast<int32_t>(adapters_.size()) - 1)];
    if (Chance(0.05)) request.output = OutputKind::kPromptLogprobs;
    if (Chance(0.05)) request.output = OutputKind::kHidden;
    if (Chance(0.05)) request.deadline = clock_.Now() + absl::Milliseconds(Between(0, 2000));
    if (Chance(0.05))
      request.first_token_deadline = clock_.Now() + absl::Milliseconds(Between(0, 500));
    // Each turn the best-ranked request advances by a position or more, and is never preempted.
    int64_t ahead = 0;
    for (const Live& other : live_) ahead += other.request.prompt.size() + other.request.max_tokens;
    Live live{RequestId{next_id_++}, request, std::make_shared<RecordingSink>(), turn_,
              2 * (ahead + static_cast<int64_t>(request.prompt.size()) + request.max_tokens) + 10};
    ++num_submitted_;
    const absl::Status status = engine_->Submit(live.id, std::move(request), live.sink);
    if (!status.ok()) {
      ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      ++num_done_;
      ++num_refused_;
      return;
    }
    ++num_accepted_;
    live_.push_back(std::move(live));
  }

  void CancelOne() {
    if (live_.empty()) return;
    Live& live = live_[Between(0, num_live() - 1)];
    live.cancelled = true;
    engine_->Cancel(live.id);
    if (Chance(0.2)) engine_->Cancel(live.id);
  }

  void Reap() {
    for (size_t i = 0; i < live_.size();) {
      if (!live_[i].sink->done) {
        if (scenario_.policy == QueuePolicy::kFcfs) {
          ASSERT_LT(turn_ - live_[i].submitted_turn, live_[i].patience) << "starved";
        }
        ++i;
        continue;
      }
      Judge(live_[i]);
      if (HasFatalFailure()) return;
      ++num_done_;
      live_[i] = std::move(live_.back());
      live_.pop_back();
    }
  }

  void Judge(const Live& live) {
    const RecordingSink& sink = *live.sink;
    std::vector<TokenId> history = live.request.prompt;
    for (size_t i = 0; i < sink.ids.size(); ++i) {
      ASSERT_EQ(sink.ids[i], FakeExecutor::NextToken(limits_, history, live.request.adapter))
          << "output " << i;
      history.push_back(sink.ids[i]);
    }
    ASSERT_EQ(sink.usage.completion_tokens, static_cast<int32_t>(sink.ids.size()));
    ASSERT_LE(static_cast<int32_t>(sink.ids.size()), live.request.max_tokens);
    switch (sink.reason) {
      case FinishReason::kStop:
        if (live.request.output == OutputKind::kHidden) {
          ASSERT_EQ(sink.outputs.size(), 1u);
        } else {
          ASSERT_FALSE(sink.ids.empty());
          ASSERT_EQ(sink.usage.stop_token, sink.ids.back());
        }
        break;
      case FinishReason::kLength:
        ASSERT_EQ(static_cast<int32_t>(sink.ids.size()), live.request.max_tokens);
        break;
      case FinishReason::kCancelled:
        ASSERT_TRUE(live.cancelled);
        ++num_cancelled_;
        break;
      case FinishReason::kDeadline:
        ASSERT_TRUE(live.request.deadline || live.request.first_token_deadline);
        ASSERT_EQ(sink.status.code(), absl::StatusCode::kDeadlineExceeded);
        ++num_expired_;
        break;
      case FinishReason::kError:
        FAIL() << sink.status;
    }
    if (live.request.output == OutputKind::kPromptLogprobs && !sink.ids.empty()) JudgeScores(live);
  }

  void JudgeScores(const Live& live) {
    int32_t next = 1;
    for (const RequestOutput& output : live.sink->outputs) {
      if (output.prompt_logprobs.empty()) continue;
      ASSERT_EQ(output.begin, next);
      for (const SampledToken& token : output.prompt_logprobs)
        ASSERT_EQ(token.id, live.request.prompt[next++]);
    }
    ASSERT_EQ(next, static_cast<int32_t>(live.request.prompt.size()));
  }

  const Scenario scenario_;
  std::mt19937_64 random_;
  FakeClock clock_;
  ExecutorLimits limits_;
  FakeExecutor* executor_;
  std::unique_ptr<EngineLoop> engine_;
  std::vector<Live> live_;
  uint64_t next_id_ = 1;
  int64_t turn_ = 0;
  int num_submitted_ = 0, num_accepted_ = 0, num_done_ = 0;
  int num_cancelled_ = 0, num_expired_ = 0, num_refused_ = 0;
  std::vector<AdapterId> adapters_;  // that requests may name
  int32_t next_adapter_ = 0;
  int num_retired_ = 0, num_unloaded_ = 0, num_held_back_ = 0;
};

}  // namespace penstock
