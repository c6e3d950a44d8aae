// Masks made beside the engine's thread: who makes which, and that nothing of a request is touched
// once it is over. What is drawn is compared with what the grammar alone allows.
#include "engine/mask_loop.h"

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "engine/engine_loop.h"
#include "fakes/fake_executor.h"
#include "fakes/masked_executor.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

/// What threads wait for; never a time.
class Signals {
 public:
  void Note(int which) {
    const std::lock_guard lock(mutex_);
    ++counts_[which];
    changed_.notify_all();
  }
  void Await(int which, int count = 1) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return counts_[which] >= count; });
  }
  int count(int which) {
    const std::lock_guard lock(mutex_);
    return counts_[which];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, int> counts_;
};

/// A cycle that tells where its masks are made.
class WatchedGrammar final : public TokenGrammar {
 public:
  using OnMask = std::function<void()>;
  WatchedGrammar(int32_t length, OnMask on_mask) : length_(length), on_mask_(std::move(on_mask)) {}
  std::unique_ptr<TokenMatcher> Start() const override {
    return std::make_unique<Watched>(length_, on_mask_);
  }

 private:
  class Watched final : public TokenMatcher {
   public:
    Watched(int32_t length, OnMask on_mask) : cycle_(length), on_mask_(std::move(on_mask)) {}
    bool Accept(TokenId id) override { return cycle_.Accept(id); }
    void Rollback(int32_t num_tokens) override { cycle_.Rollback(num_tokens); }
    bool finished() const override { return cycle_.finished(); }
    bool ended() const override { return cycle_.ended(); }
    void FillMask(absl::Span<uint32_t> words) override {
      on_mask_();
      cycle_.FillMask(words);
    }

   private:
    CycleMatcher cycle_;
    const OnMask on_mask_;
  };

  const int32_t length_;
  const OnMask on_mask_;
};

class WaitedSink final : public TokenSink {
 public:
  void OnTokens(absl::Span<const SampledToken> tokens) override {
    recorded.OnTokens(tokens);
    signals.Note(0);
  }
  void OnOutput(const RequestOutput& output) override { recorded.OnOutput(output); }
  void OnDone(FinishReason reason, const Usage& usage, absl::Status status) override {
    recorded.OnDone(reason, usage, std::move(status));
    signals.Note(1);
  }
  void AwaitToken() { signals.Await(0); }
  void AwaitEnd() { signals.Await(1); }
  RecordingSink recorded;
  Signals signals;
};

class MaskLoopTest : public testing::TestWithParam<std::pair<int, bool>> {
 protected:
  void SetUp() override { Make(256); }
  void Make(int32_t num_blocks) {
    auto executor =
        std::make_unique<FirstAllowedExecutor>(MaskedLimits(8, num_blocks, GetParam().first));
    executor_ = executor.get();
    EngineOptions options;
    options.clock = &SystemClock::Get();
    options.always_help_with_masks = true;
    options.scheduler.prefix_cache = false;
    options.scheduler.speculation.ngram = GetParam().second;
    options.scheduler.speculation.max_tokens = 4;
    options.scheduler.speculation.min_match = 2;
    options.on_thread_start = [this] { engine_thread_ = std::this_thread::get_id(); };
    engine_ = std::make_unique<EngineLoop>(std::move(executor), options);
  }
  bool OnEngine() const { return std::this_thread::get_id() == engine_thread_; }
  std::shared_ptr<WaitedSink> Submit(std::shared_ptr<TokenGrammar> grammar, int32_t max_tokens) {
    GenerateRequest request;
    request.prompt = {1, 2, 3};
    request.max_tokens = max_tokens;
    request.stop_token_ids = {kMaskedEos};
    request.grammar = std::move(grammar);
    auto sink = std::make_shared<WaitedSink>();
    EXPECT_TRUE(engine_->Submit(RequestId{next_++}, std::move(request), sink).ok());
    return sink;
  }
  static std::vector<TokenId> Cycle(int32_t length) {
    std::vector<TokenId> ids;
    for (int i = 0; i < length; ++i) ids.push_back(10 + i % 3);
    return ids;
  }

  std::thread::id engine_thread_;
  FirstAllowedExecutor* executor_ = nullptr;
  std::unique_ptr<EngineLoop> engine_;
  uint64_t next_ = 1;
};

TEST_P(MaskLoopTest, HelpsWhileTheForwardPassRuns) {
  Signals signals;
  // The pass is done once the mask is, so were it made behind it the test would hang.
  int before = 0;
  executor_->on_forward = [&] {
    signals.Await(0, before + 1);
    return absl::OkStatus();
  };
  executor_->on_sample = [&] { before = signals.count(0); };
  engine_->Start();
  const auto grammar = std::make_shared<WatchedGrammar>(20, [&] {
    EXPECT_FALSE(OnEngine());
    signals.Note(0);
  });
  const auto sink = Submit(grammar, 12);
  sink->AwaitEnd();
  engine_.reset();  // it borrows what is here
  EXPECT_EQ(sink->recorded.ids, Cycle(12));
}

TEST_P(MaskLoopTest, TheEngineMakesWhatIsNotBegun) {
  Signals signals;
  // Whoever comes first waits for the other thread, so each must make one, at the same time.
  const auto grammar = std::make_shared<WatchedGrammar>(9, [&] {
    signals.Note(OnEngine() ? 0 : 1);
    signals.Await(OnEngine() ? 1 : 0);
  });
  // Not before both are there, and not before the helper has begun.
  executor_->on_forward = [&] {
    signals.Await(1);
    return absl::OkStatus();
  };
  const auto one = Submit(grammar, 20);
  const auto two = Submit(grammar, 20);
  engine_->Start();
  one->AwaitEnd();
  two->AwaitEnd();
  engine_.reset();  // it borrows what is here
  EXPECT_EQ(one->recorded.ids, Cycle(9));
  EXPECT_EQ(two->recorded.ids, Cycle(9));
}

TEST_P(MaskLoopTest, ADeviceThatFailsWaitsForTheMaskInWork) {
  Signals signals;
  std::atomic<bool> fails = false;
  executor_->on_sample = [&, steps = 0]() mutable { fails = ++steps == 4; };
  executor_->on_forward = [&] {
    if (!fails) return absl::OkStatus();
    signals.Await(2);  // the helper has begun
    signals.Note(3);
    return absl::InternalError("gone");
  };
  const auto grammar = std::make_shared<WatchedGrammar>(90, [&] {
    if (!fails) return;
    signals.Note(2);
    signals.Await(3);
  });
  engine_->Start();
  const auto sink = Submit(grammar, 80);
  sink->AwaitEnd();
  engine_.reset();
  EXPECT_EQ(sink->recorded.reason, FinishReason::kError);
  const std::vector<TokenId>& ids = sink->recorded.ids;
  EXPECT_EQ(ids, Cycle(static_cast<int32_t>(ids.size())));
}

TEST_P(MaskLoopTest, HoldsUnderPreemptionAndCancellation) {
  int32_t num_preemptions = 0;
  Make(16);  // 256 positions for eight of up to 123
  engine_->Start();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::shared_ptr<WaitedSink>> sinks;
    const uint64_t first = next_;
    for (int i = 0; i < 12; ++i)
      sinks.push_back(Submit(std::make_shared<CycleGrammar>(60 + 5 * i), 80));
    const auto free = Submit(nullptr, 30);
    for (int i = 0; i < 12; i += 3) {
      sinks[i]->AwaitToken();
      engine_->Cancel(RequestId{first + i});
    }
    for (int i = 0; i < 12; ++i) {
      sinks[i]->AwaitEnd();
      const RecordingSink& got = sinks[i]->recorded;
      ASSERT_EQ(got.ids, Cycle(static_cast<int32_t>(got.ids.size())));
      num_preemptions += got.usage.num_preemptions;
      if (got.reason != FinishReason::kCancelled) {
        ASSERT_EQ(got.ids.size(), static_cast<size_t>(std::min(60 + 5 * i, 80)));
      } else {
        ASSERT_EQ(i % 3, 0);
      }
    }
    free->AwaitEnd();
    ASSERT_EQ(free->recorded.ids, std::vector<TokenId>(30, 1));
  }
  EXPECT_GT(num_preemptions, 0);
}

TEST_P(MaskLoopTest, EndsWithRequestsUnderWay) {
  for (int round = 0; round < 20; ++round) {
    Make(256);
    engine_->Start();
    std::vector<std::shared_ptr<WaitedSink>> sinks;
    for (int i = 0; i < 8; ++i) sinks.push_back(Submit(std::make_shared<CycleGrammar>(900), 900));
    sinks[0]->AwaitToken();
    engine_.reset();
    for (const auto& sink : sinks) {
      sink->AwaitEnd();
      ASSERT_EQ(sink->recorded.ids, Cycle(static_cast<int32_t>(sink->recorded.ids.size())));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DepthsAndDrafts, MaskLoopTest,
                         testing::Values(std::pair(1, false), std::pair(2, false),
                                         std::pair(1, true), std::pair(2, true)));

/// Takes `steps` steps, each at what its way costs; how many had help.
int HelpedOf(MaskPace& pace, int steps, size_t num_tasks, double alone, double helped) {
  int count = 0;
  for (int i = 0; i < steps; ++i) {
    const bool helps = pace.Helps(num_tasks);
    pace.Observe(num_tasks, helps, helps ? helped : alone);
    count += helps ? 1 : 0;
  }
  return count;
}

TEST(MaskPaceTest, TakesWhatCostsTheEngineLess) {
  MaskPace pace;
  EXPECT_GT(HelpedOf(pace, 640, 16, 40e-6, 10e-6), 600);
  // Few masks are not worth it; both are known apart.
  EXPECT_LT(HelpedOf(pace, 640, 1, 2e-6, 9e-6), 40);
  EXPECT_GT(HelpedOf(pace, 640, 16, 40e-6, 10e-6), 600);
  // The machine becomes busy, and is free again.
  EXPECT_LT(HelpedOf(pace, 640, 16, 40e-6, 90e-6), 80);
  HelpedOf(pace, 640, 16, 40e-6, 10e-6);
  EXPECT_GT(HelpedOf(pace, 640, 16, 40e-6, 10e-6), 600);
}

TEST(MaskTasksTest, OneOfManyClaimsATask) {
  Sequence seq;
  seq.matcher = std::make_unique<CycleMatcher>(50);
  MaskTasks tasks(1);
  for (int round = 0; round < 2000; ++round) {
    tasks.Clear();
    tasks.Add().Plan(seq, 0, 0, {}, kMaskedVocab);
    std::atomic<int> made = 0;
    if (round == 0) {
      // What is not offered is no helper's.
      EXPECT_FALSE(tasks[0].Claim(MaskTask::Maker::kHelper));
    }
    std::jthread helper([&] { made += tasks[0].Claim(MaskTask::Maker::kHelper) ? 1 : 0; });
    tasks[0].Offer();
    const bool mine = tasks[0].Claim(MaskTask::Maker::kEngine);
    helper.join();
    ASSERT_EQ(made + (mine ? 1 : 0), 1);
    tasks[0].Make();
    ASSERT_EQ(tasks[0].row(0)[0], 1u << 10);
  }
}

}  // namespace
}  // namespace penstock
