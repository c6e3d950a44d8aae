#include "engine/engine_loop.h"

#include <future>

#include "fakes/fake_executor.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

/// Tells a waiting test when it is done.
class WaitingSink final : public TokenSink {
 public:
  void OnTokens(absl::Span<const SampledToken> tokens) override {
    recorded.OnTokens(tokens);
    if (!first_) return;
    first_ = false;
    first_token.set_value();
  }
  void OnOutput(const RequestOutput& output) override { recorded.OnOutput(output); }
  void OnDone(FinishReason reason, const Usage& usage, absl::Status status) override {
    recorded.OnDone(reason, usage, std::move(status));
    done.set_value();
  }
  RecordingSink recorded;
  std::promise<void> first_token, done;

 private:
  bool first_ = true;
};

class EngineLoopTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    ExecutorLimits limits;
    limits.groups = {{CacheRetention::kFull, 0, 1024, num_blocks_, tier_blocks_}};
    limits.num_slots = 4;
    limits.pipeline_depth = GetParam();
    limits.max_step_tokens = 64;
    limits.max_context = 2048;
    limits.vocab_size = 1000;
    limits.max_adapters = with_adapters_ ? 1 : 0;
    auto executor = std::make_unique<FakeExecutor>(limits);
    executor_ = executor.get();
    EngineOptions options;
    options.max_queue = 2;
    options.clock = &SystemClock::Get();
    engine_ = std::make_unique<EngineLoop>(std::move(executor), options);
  }
  static GenerateRequest Request(int32_t max_tokens) {
    GenerateRequest request;
    request.prompt = {1, 2, 3};
    request.max_tokens = max_tokens;
    return request;
  }
  std::shared_ptr<WaitingSink> Submit(uint64_t id, int32_t max_tokens) {
    auto sink = std::make_shared<WaitingSink>();
    EXPECT_TRUE(engine_->Submit(RequestId{id}, Request(max_tokens), sink).ok());
    return sink;
  }
  bool with_adapters_ = false;
  int32_t num_blocks_ = 256;
  int32_t tier_blocks_ = 0;
  FakeExecutor* executor_ = nullptr;
  std::unique_ptr<EngineLoop> engine_;
};

TEST_P(EngineLoopTest, AnswersARequest) {
  engine_->Start();
  const auto sink = Submit(1, 20);
  sink->done.get_future().wait();
  EXPECT_EQ(sink->recorded.ids.size(), 20u);
  EXPECT_EQ(sink->recorded.reason, FinishReason::kLength);
}

TEST_P(EngineLoopTest, CancelsARequestThatRuns) {
  engine_->Start();
  const auto sink = Submit(1, 2000);
  sink->first_token.get_future().wait();
  engine_->Cancel(RequestId{1});
  sink->done.get_future().wait();
  EXPECT_TRUE(sink->recorded.reason == FinishReason::kCancelled ||
              sink->recorded.reason == FinishReason::kLength);
}

TEST_P(EngineLoopTest, RefusesWhatTheQueueCannotHold) {
  for (uint64_t id = 1; id <= 6; ++id) Submit(id, 5);  // 4 slots and 2 places in the queue
  auto sink = std::make_shared<WaitingSink>();
  EXPECT_EQ(engine_->Submit(RequestId{7}, Request(5), sink).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(sink->recorded.done);
  while (engine_->RunOnce()) {
  }
  EXPECT_TRUE(engine_->Submit(RequestId{8}, Request(5), sink).ok());
}

TEST_P(EngineLoopTest, ADeviceFaultEndsEveryRequestAndTakesReadinessAway) {
  executor_->on_launch = [](const StepPlan& plan) {
    return plan.step.value < 3 ? absl::OkStatus()
                               : absl::InternalError("uncorrectable memory error");
  };
  const auto first = Submit(1, 50), second = Submit(2, 50);
  while (engine_->RunOnce()) {
  }
  for (const auto& sink : {first, second}) {
    EXPECT_EQ(sink->recorded.reason, FinishReason::kError);
    EXPECT_EQ(sink->recorded.status.code(), absl::StatusCode::kInternal);
  }
  EXPECT_FALSE(engine_->load().healthy);
  EXPECT_EQ(engine_->Submit(RequestId{3}, Request(1), first).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(engine_->scheduler().tables().pool(0).num_held(), 0);
}

TEST_P(EngineLoopTest, RunsCommandsInOrderEvenWhenIdle) {
  std::vector<int> order;
  engine_->Control({.kind = CommandKind::kPark, .path = ""},
                   [&](absl::Status s) { order.push_back(s.ok() ? 1 : -1); });
  engine_->Control({.kind = CommandKind::kWake, .path = ""},
                   [&](absl::Status s) { order.push_back(s.ok() ? 2 : -2); });
  while (engine_->RunOnce()) {
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  absl::Status refused;
  engine_->Control({.kind = CommandKind::kLoadAdapter, .path = "x"},
                   [&](absl::Status s) { refused = s; });
  while (engine_->RunOnce()) {
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
}

class EngineAdaptersTest : public EngineLoopTest {
 protected:
  void SetUp() override {
    with_adapters_ = true;
    EngineLoopTest::SetUp();
  }
  void Load(int32_t id) {
    engine_->Control({.kind = CommandKind::kLoadAdapter, .adapter = AdapterId(id), .path = ""},
                     [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
  }
  std::shared_ptr<absl::Status> Unload(int32_t id) {
    auto reported = std::make_shared<absl::Status>(absl::UnknownError("not yet"));
    engine_->Control({.kind = CommandKind::kUnloadAdapter, .adapter = AdapterId(id), .path = ""},
                     [reported](const absl::Status& status) { *reported = status; });
    return reported;
  }
  std::shared_ptr<WaitingSink> SubmitAdapted(uint64_t id, int32_t adapter, int32_t max_tokens) {
    auto sink = std::make_shared<WaitingSink>();
    GenerateRequest request = Request(max_tokens);
    request.adapter = AdapterId(adapter);
    EXPECT_TRUE(engine_->Submit(RequestId{id}, request, sink).ok());
    return sink;
  }
  void RunAll() {
    while (engine_->RunOnce()) {
    }
  }
};

TEST_P(EngineAdaptersTest, AnUnloadWaitsForTheRequestsThatNameIt) {
  Load(5);
  const auto running = SubmitAdapted(1, 5, 40);
  for (int i = 0; i < 4; ++i) engine_->RunOnce();
  const auto reported = Unload(5);
  const auto again = Unload(5);
  const auto late = SubmitAdapted(2, 5, 3);
  for (int i = 0; i < 4; ++i) engine_->RunOnce();
  EXPECT_EQ(reported->code(), absl::StatusCode::kUnknown);
  EXPECT_FALSE(running->recorded.done);
  RunAll();
  EXPECT_EQ(running->recorded.ids.size(), 40u);
  EXPECT_TRUE(reported->ok() && again->ok());
  EXPECT_EQ(late->recorded.status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Unload(5)->code(), absl::StatusCode::kUnknown);
  const auto gone = Unload(5);
  RunAll();
  EXPECT_EQ(gone->code(), absl::StatusCode::kNotFound);
}

TEST_P(EngineAdaptersTest, AReloadedAdapterFindsNoPrefixOfTheOldOne) {
  const auto cached = [&](uint64_t id, AdapterId adapter) {
    auto sink = std::make_shared<RecordingSink>();
    GenerateRequest request = Request(1);
    request.prompt.assign(40, 5);
    request.adapter = adapter;
    EXPECT_TRUE(engine_->Submit(RequestId{id}, request, sink).ok());
    RunAll();
    return sink->usage.cached_tokens;
  };
  Load(0);
  EXPECT_EQ(cached(1, AdapterId(0)), 0);
  EXPECT_EQ(cached(2, AdapterId(0)), 32);
  EXPECT_EQ(cached(3, kNoAdapter), 0);
  const auto unloaded = Unload(0);
  Load(1);
  EXPECT_EQ(cached(4, AdapterId(1)), 0);
  EXPECT_TRUE(unloaded->ok());
  EXPECT_EQ(cached(5, AdapterId(1)), 32);
}

TEST_P(EngineAdaptersTest, NoMoreAdaptersRunThanAStepHolds) {
  Load(0);
  Load(1);
  const auto first = SubmitAdapted(1, 0, 30);
  const auto other = SubmitAdapted(2, 1, 5);
  const auto plain = Submit(3, 5);  // behind `other`, which is first in the queue
  for (int i = 0; i < 6; ++i) engine_->RunOnce();
  EXPECT_FALSE(first->recorded.done);
  EXPECT_TRUE(other->recorded.ids.empty());
  RunAll();  // the executor dies of two adapters in a step
  for (const auto& sink : {first, other, plain})
    EXPECT_EQ(sink->recorded.reason, FinishReason::kLength);
}

TEST_P(EngineAdaptersTest, AHigherPriorityTakesTheAdaptersPlace) {
  Load(0);
  Load(1);
  const auto first = SubmitAdapted(1, 0, 200);
  for (int i = 0; i < 6; ++i) engine_->RunOnce();
  auto urgent = std::make_shared<RecordingSink>();
  GenerateRequest request = Request(5);
  request.adapter = AdapterId(1);
  request.priority = -1;
  ASSERT_TRUE(engine_->Submit(RequestId{2}, request, urgent).ok());
  for (int i = 0; i < 20 && !urgent->done; ++i) engine_->RunOnce();
  EXPECT_TRUE(urgent->done);
  EXPECT_FALSE(first->recorded.done);
  RunAll();
  EXPECT_EQ(first->recorded.ids.size(), 200u);
  EXPECT_GT(first->recorded.usage.num_preemptions, 0);
}

TEST_P(EngineAdaptersTest, AFaultOfOneSequenceEndsItAlone) {
  Load(5);
  executor_->fault_of = AdapterId(5);
  const auto faulty = SubmitAdapted(1, 5, 40);
  const auto other = Submit(2, 20);
  RunAll();
  EXPECT_EQ(faulty->recorded.reason, FinishReason::kError);
  EXPECT_EQ(faulty->recorded.status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(faulty->recorded.ids.empty());
  EXPECT_EQ(engine_->scheduler().counters().num_corrupted, 1);
  EXPECT_EQ(other->recorded.ids.size(), 20u);
  EXPECT_TRUE(engine_->load().healthy);
  EXPECT_EQ(engine_->scheduler().tables().pool(0).num_held(), 0);
}

TEST_P(EngineAdaptersTest, EndsAnUnloadThatStillWaits) {
  Load(5);
  const auto running = SubmitAdapted(1, 5, 2000);
  for (int i = 0; i < 4; ++i) engine_->RunOnce();
  const auto reported = Unload(5);
  engine_->RunOnce();
  engine_.reset();
  EXPECT_EQ(reported->code(), absl::StatusCode::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(Depths, EngineAdaptersTest, testing::Values(1, 2));

TEST_P(EngineLoopTest, ForgetsPrefixesWhenTold) {
  const auto run = [&](uint64_t id) {
    auto sink = std::make_shared<RecordingSink>();
    GenerateRequest request = Request(1);
    request.prompt.assign(40, 5);
    EXPECT_TRUE(engine_->Submit(RequestId{id}, request, sink).ok());
    while (engine_->RunOnce()) {
    }
    return sink->usage.cached_tokens;
  };
  EXPECT_EQ(run(1), 0);
  EXPECT_EQ(run(2), 32);
  engine_->Control({.kind = CommandKind::kResetCache, .path = ""}, [](absl::Status) {});
  EXPECT_EQ(run(3), 0);
}

TEST_P(EngineLoopTest, DrainLetsLiveRequestsFinishAndRefusesNewOnes) {
  const auto sink = Submit(1, 200);
  engine_->Start();
  engine_->Drain(absl::Seconds(60));
  EXPECT_EQ(sink->recorded.reason, FinishReason::kLength);
  EXPECT_EQ(engine_->Submit(RequestId{2}, Request(1), sink).code(), absl::StatusCode::kUnavailable);
}

TEST_P(EngineLoopTest, DrainEndsWhatOutlivesItsGrace) {
  std::promise<void> release;
  executor_->on_launch = [future = release.get_future().share()](const StepPlan& plan) {
    if (plan.step.value == 2) future.wait();
    return absl::OkStatus();
  };
  const auto sink = Submit(1, 2000);
  engine_->Start();
  std::thread drain([&] { engine_->Drain(absl::ZeroDuration()); });
  release.set_value();
  drain.join();
  EXPECT_TRUE(sink->recorded.done);
}

TEST_P(EngineLoopTest, ItsEndEndsWhatIsLeft) {
  const auto sink = Submit(1, 2000);
  engine_.reset();
  EXPECT_EQ(sink->recorded.reason, FinishReason::kError);
  EXPECT_EQ(sink->recorded.status.code(), absl::StatusCode::kUnavailable);
}

class EngineLoopTierTest : public EngineLoopTest {
 protected:
  EngineLoopTierTest() {
    num_blocks_ = 12;
    tier_blocks_ = 40;
  }
  RecordingSink Run(TokenId first) {
    GenerateRequest request;
    for (TokenId t = 0; t < 161; ++t) request.prompt.push_back((first + 7 * t) % 1000);
    request.max_tokens = 2;
    const auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(engine_->Submit(RequestId{next_id_++}, request, sink).ok());
    while (engine_->RunOnce()) {
    }
    EXPECT_TRUE(sink->done);
    return *sink;
  }
  uint64_t next_id_ = 1;
};

TEST_P(EngineLoopTierTest, RunsStepsThatOnlyCopyBlocks) {
  const RecordingSink before = Run(1);
  Run(2);
  Run(3);
  bool only_copies = false;
  executor_->on_launch = [&](const StepPlan& plan) {
    only_copies |= plan.slices.empty() && !plan.moves.empty();
    return absl::OkStatus();
  };
  const RecordingSink after = Run(1);
  EXPECT_TRUE(only_copies);
  EXPECT_EQ(executor_->num_imported, 10);
  EXPECT_EQ(after.usage.cached_tokens, 160);
  EXPECT_EQ(after.ids, before.ids);
}

INSTANTIATE_TEST_SUITE_P(PipelineDepths, EngineLoopTest, testing::Values(1, 2));
INSTANTIATE_TEST_SUITE_P(PipelineDepths, EngineLoopTierTest, testing::Values(1, 2));

}  // namespace
}  // namespace penstock
