#include "engine/scheduler.h"

#include <algorithm>
#include <numeric>

#include "fakes/fake_executor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using testing::HasSubstr;

class SchedulerTest : public testing::Test {
 protected:
  void Make(int32_t blocks, int32_t slots = 4, int32_t step_tokens = 64,
            QueuePolicy policy = QueuePolicy::kPriority) {
    limits_.groups = {{CacheRetention::kFull, 0, 1024, blocks}};
    limits_.num_slots = slots;
    limits_.max_step_tokens = step_tokens;
    limits_.max_context = 512;
    limits_.vocab_size = 100;
    executor_ = std::make_unique<FakeExecutor>(limits_);
    SchedulerOptions options;
    options.policy = policy;
    options.speculation = speculation_;
    scheduler_ = std::make_unique<Scheduler>(limits_, options);
  }
  std::shared_ptr<RecordingSink> Add(uint64_t id, int32_t prompt_tokens, int32_t max_tokens,
                                     int32_t first_token = 0, int32_t priority = 0) {
    GenerateRequest request;
    request.prompt.resize(prompt_tokens);
    std::iota(request.prompt.begin(), request.prompt.end(), first_token);
    for (TokenId& token : request.prompt) token %= 100;
    request.max_tokens = max_tokens;
    request.priority = priority;
    return Add(id, std::move(request));
  }
  std::shared_ptr<RecordingSink> Add(uint64_t id, GenerateRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(scheduler_->Check(request).ok());
    scheduler_->Add(RequestId{id}, std::move(request), sink, now_);
    return sink;
  }
  StepPlan Step() {
    now_ += absl::Milliseconds(1);
    StepPlan plan = scheduler_->Plan(now_);
    if (plan.slices.empty()) return plan;
    CHECK(executor_->Launch(plan).ok());
    scheduler_->Commit(*executor_->Collect(), now_);
    return plan;
  }
  void RunAll() {
    while (scheduler_->num_live() > 0) ASSERT_FALSE(Step().slices.empty());
  }

  ExecutorLimits limits_;
  SpeculationOptions speculation_;
  std::unique_ptr<FakeExecutor> executor_;
  std::unique_ptr<Scheduler> scheduler_;
  absl::Time now_ = absl::FromUnixSeconds(1);
};

TEST_F(SchedulerTest, CutsALongPromptIntoChunksBesideDecodes) {
  Make(64);
  const auto first = Add(1, 10, 20);
  Step();
  Add(2, 150, 4, 50);
  StepPlan plan = Step();
  ASSERT_EQ(plan.slices.size(), 2u);
  EXPECT_EQ(plan.slices[0].num_tokens, 1);  // the decode is never held up
  EXPECT_EQ(plan.slices[1].num_tokens, 63);
  EXPECT_EQ(plan.slices[1].num_outputs, 0);
  Step();
  plan = Step();
  EXPECT_EQ(plan.slices[1].begin, 126);
  EXPECT_EQ(plan.slices[1].num_tokens, 24);
  EXPECT_EQ(plan.slices[1].num_outputs, 1);
  EXPECT_EQ(first->ids.size(), 4u);
}

TEST_F(SchedulerTest, SendsASlotsSetUpAndEachBlockOnce) {
  Make(64);
  Add(1, 20, 20);
  StepPlan plan = Step();
  EXPECT_EQ(plan.setups.size(), 1u);
  EXPECT_EQ(plan.block_ids.size(), 2u);
  for (int i = 0; i < 12; ++i) {
    plan = Step();
    EXPECT_TRUE(plan.setups.empty());
    EXPECT_TRUE(plan.block_ids.empty()) << i;
  }
  EXPECT_EQ(Step().block_ids.size(), 1u);  // position 32 opens the third block
}

TEST_F(SchedulerTest, GivesASecondRequestThePrefixOfTheFirst) {
  Make(64);
  Add(1, 50, 1);
  RunAll();
  const auto second = Add(2, 50, 1);
  const StepPlan plan = Step();
  EXPECT_EQ(plan.slices[0].begin, 48);
  EXPECT_EQ(second->usage.cached_tokens, 48);
  EXPECT_EQ(scheduler_->counters().prefix_hit_tokens, 48);
  EXPECT_EQ(scheduler_->counters().prefix_queried_tokens, 100);
}

TEST_F(SchedulerTest, ComputesAtLeastTheLastTokenOfACachedPrompt) {
  Make(64);
  Add(1, 32, 1);
  RunAll();
  Add(2, 32, 1);
  EXPECT_EQ(Step().slices[0].begin, 16);
}

TEST_F(SchedulerTest, KeepsSaltsApart) {
  Make(64);
  Add(1, 50, 1);
  RunAll();
  GenerateRequest request;
  request.prompt.resize(50);
  std::iota(request.prompt.begin(), request.prompt.end(), 0);
  request.max_tokens = 1;
  request.cache_salt = "tenant b";
  Add(2, request);
  EXPECT_EQ(Step().slices[0].begin, 0);
}

TEST_F(SchedulerTest, LetsASecondArrivalJoinAPrefixThatIsBeingComputed) {
  Make(64);
  Add(1, 200, 2);
  Step();
  const auto second = Add(2, 200, 2);
  RunAll();
  // 200 positions and 1 decode for the first; for the second only what lies beyond the last full
  // block.
  EXPECT_EQ(executor_->num_computed, 200 + 1 + 8 + 1);
  EXPECT_EQ(second->usage.cached_tokens, 192);
}

TEST_F(SchedulerTest, SharesAPrefixInsideOneStep) {
  Make(64, 4, 256);
  Add(1, 50, 1);
  Add(2, 50, 1);
  const StepPlan plan = Step();
  ASSERT_EQ(plan.slices.size(), 2u);
  EXPECT_EQ(plan.slices[1].begin, 48);
}

TEST_F(SchedulerTest, AJoinerComputesItselfWhenTheMakerIsCancelled) {
  Make(64);
  Add(1, 200, 2);
  Step();
  const auto second = Add(2, 200, 2);
  Step();
  scheduler_->Cancel(RequestId{1});
  RunAll();
  EXPECT_EQ(second->ids.size(), 2u);
  EXPECT_EQ(second->usage.cached_tokens, 128);  // what the first had launched before it went
}

TEST_F(SchedulerTest, AnswersTheSameInFewerStepsWithDrafts) {
  Make(64);
  const auto plain = Add(1, 100, 200);
  RunAll();
  const int64_t plain_steps = executor_->num_steps;
  speculation_ = {.ngram = true, .max_tokens = 4, .min_match = 2};
  Make(64);
  const auto drafted = Add(1, 100, 200);
  RunAll();
  EXPECT_EQ(drafted->ids, plain->ids);
  EXPECT_EQ(drafted->usage.completion_tokens, 200);
  EXPECT_LT(executor_->num_steps, plain_steps - 50);
  EXPECT_EQ(plain_steps - executor_->num_steps, scheduler_->counters().num_accepted_tokens);
  EXPECT_EQ(executor_->num_accepted, scheduler_->counters().num_accepted_tokens);
  EXPECT_EQ(scheduler_->tables().pool(0).num_held(), 0);
}

TEST_F(SchedulerTest, DraftsNoMoreThanTheRequestMayStillHave) {
  speculation_ = {.ngram = true, .max_tokens = 8, .min_match = 2};
  Make(64);
  for (uint64_t id = 1; id <= 40; ++id) {  // from the second on the answer is known
    const auto sink = Add(id, 30, static_cast<int32_t>(id));
    while (scheduler_->num_live() > 0) {
      const auto out = static_cast<int32_t>(sink->ids.size());
      const StepPlan plan = Step();
      ASSERT_EQ(plan.slices.size(), 1u);
      EXPECT_LE(out + plan.slices[0].num_outputs, static_cast<int32_t>(id));
    }
    EXPECT_EQ(sink->ids.size(), id);
  }
  EXPECT_GT(scheduler_->counters().num_accepted_tokens, 0);
}

TEST_F(SchedulerTest, AStopTokenInsideAnAcceptedDraftEndsTheRequestThere) {
  speculation_ = {.ngram = true, .max_tokens = 8, .min_match = 2};
  Make(64);
  const auto whole = Add(1, 30, 60);
  RunAll();
  int num_inside = 0;
  for (uint64_t id = 2; id < 50; ++id) {
    GenerateRequest request;
    request.prompt.resize(30);
    std::iota(request.prompt.begin(), request.prompt.end(), 0);
    request.max_tokens = 60;
    request.stop_token_ids = {whole->ids[id]};
    const auto end = std::find(whole->ids.begin(), whole->ids.end(), whole->ids[id]);
    const int64_t before = executor_->num_accepted + executor_->num_steps;
    const auto sink = Add(id, request);
    RunAll();
    EXPECT_EQ(sink->reason, FinishReason::kStop);
    EXPECT_EQ(sink->ids, std::vector<TokenId>(whole->ids.begin(), end + 1));
    EXPECT_EQ(sink->usage.completion_tokens, static_cast<int32_t>(sink->ids.size()));
    const int64_t drawn = executor_->num_accepted + executor_->num_steps - before;
    num_inside += drawn > static_cast<int64_t>(sink->ids.size()) ? 1 : 0;
    EXPECT_EQ(scheduler_->tables().pool(0).num_held(), 0);
  }
  EXPECT_GT(num_inside, 5);  // more was right than the request might have
}

TEST_F(SchedulerTest, NeverDraftsFromTheOutputsOfAnotherSalt) {
  speculation_ = {.ngram = true, .max_tokens = 8, .min_match = 3};
  Make(64);
  GenerateRequest request;
  for (TokenId t : {3, 50, 7, 81}) request.prompt.push_back(t);
  request.max_tokens = 6;  // too short to repeat itself
  const auto drafted = [&](uint64_t id) {
    const int64_t before = scheduler_->counters().num_draft_tokens;
    Add(id, request);
    RunAll();
    return scheduler_->counters().num_draft_tokens - before;
  };
  EXPECT_EQ(drafted(1), 0);
  request.cache_salt = "tenant b";
  EXPECT_EQ(drafted(2), 0);
  EXPECT_GT(drafted(3), 0);
}

TEST_F(SchedulerTest, NeverDraftsOnARecurrentState) {
  speculation_ = {.ngram = true, .max_tokens = 4, .min_match = 2};
  limits_.groups = {{CacheRetention::kFull, 0, 1024, 64}, {CacheRetention::kRecurrent, 0, 1024, 8}};
  EXPECT_FALSE(Scheduler::CanDraft(limits_));
  limits_.num_slots = 4;
  limits_.max_step_tokens = 64;
  limits_.max_context = 512;
  limits_.vocab_size = 100;
  executor_ = std::make_unique<FakeExecutor>(limits_);
  SchedulerOptions options;
  options.speculation = speculation_;
  scheduler_ = std::make_unique<Scheduler>(limits_, options);
  const auto sink = Add(1, 100, 200);
  RunAll();
  EXPECT_EQ(sink->ids.size(), 200u);
  EXPECT_EQ(scheduler_->counters().num_draft_tokens, 0);
}

TEST_F(SchedulerTest, PlansBehindAVerificationAsIfAllWereRight) {
  speculation_ = {.ngram = true, .max_tokens = 3, .min_match = 2, .most_unverified = 2};
  limits_.pipeline_depth = 2;
  Make(64);
  const auto sink = Add(1, 100, 200);
  Step();
  Step();
  bool behind = false;
  for (StepPlan first = scheduler_->Plan(now_); scheduler_->num_live() > 0;) {
    ASSERT_TRUE(executor_->Launch(first).ok());
    const StepPlan second = scheduler_->Plan(now_);
    if (!second.slices.empty()) {
      const SequenceSlice& a = first.slices[0];
      const SequenceSlice& b = second.slices[0];
      EXPECT_EQ(b.begin, a.begin + a.num_tokens);
      EXPECT_EQ(b.begin_on_device, a.num_drafts > 0);
      EXPECT_TRUE(b.feed_last_sample);
      behind = behind || b.begin_on_device;
      ASSERT_TRUE(executor_->Launch(second).ok());
      scheduler_->Commit(*executor_->Collect(), now_);
    }
    scheduler_->Commit(*executor_->Collect(), now_);
    if (scheduler_->num_live() > 0) first = scheduler_->Plan(now_);
  }
  EXPECT_TRUE(behind);
  EXPECT_EQ(sink->ids.size(), 200u);
}

TEST_F(SchedulerTest, AwaitsAVerificationRatherThanGuessOnGuesses) {
  speculation_ = {.ngram = true, .max_tokens = 3, .min_match = 2};
  limits_.pipeline_depth = 2;
  Make(64);
  Add(1, 100, 200);
  int num_awaited = 0;
  while (scheduler_->num_live() > 0) {
    const StepPlan plan = scheduler_->Plan(now_);
    ASSERT_FALSE(plan.slices.empty());
    ASSERT_TRUE(executor_->Launch(plan).ok());
    if (plan.slices[0].num_drafts > 0) {
      EXPECT_TRUE(scheduler_->Plan(now_).slices.empty());
      ++num_awaited;
    }
    scheduler_->Commit(*executor_->Collect(), now_);
  }
  EXPECT_GT(num_awaited, 0);
}

TEST_F(SchedulerTest, PreemptsYoungestWhenBlocksRunOut) {
  Make(6);
  const auto first = Add(1, 30, 50);  // needs five blocks in the end
  const auto second = Add(2, 30, 50, 50);
  RunAll();
  EXPECT_EQ(first->usage.num_preemptions, 0);
  EXPECT_GT(second->usage.num_preemptions, 0);
  EXPECT_EQ(first->ids.size(), 50u);
  EXPECT_EQ(second->ids.size(), 50u);
}

TEST_F(SchedulerTest, AnswersTheSameAfterAPreemption) {
  Make(64);
  const auto alone = Add(1, 30, 50, 50);
  RunAll();
  Make(6);
  Add(1, 30, 50);
  const auto pressed = Add(2, 30, 50, 50);
  RunAll();
  EXPECT_GT(pressed->usage.num_preemptions, 0);
  EXPECT_EQ(pressed->ids, alone->ids);
}

TEST_F(SchedulerTest, RunsLowerPriorityNumbersFirstAndPreemptsForThem) {
  Make(64, /*slots=*/1);
  const auto low = Add(1, 10, 20, 0, /*priority=*/5);
  Step();
  const auto high = Add(2, 10, 3, 40, /*priority=*/-5);
  Step();
  EXPECT_EQ(high->ids.size(), 1u);
  RunAll();
  EXPECT_EQ(low->usage.num_preemptions, 1);
  EXPECT_EQ(low->ids.size(), 20u);
}

TEST_F(SchedulerTest, FcfsIgnoresPriorities) {
  Make(64, 1, 64, QueuePolicy::kFcfs);
  const auto first = Add(1, 10, 2, 0, 5);
  const auto second = Add(2, 10, 2, 40, -5);
  Step();
  EXPECT_EQ(first->ids.size(), 1u);
  EXPECT_TRUE(second->ids.empty());
}

TEST_F(SchedulerTest, FreesBlocksOfACancelledRequestAtOnce) {
  Make(64);
  const auto sink = Add(1, 100, 50);
  Step();
  EXPECT_GT(scheduler_->tables().pool(0).num_held(), 0);
  scheduler_->Cancel(RequestId{1});
  EXPECT_EQ(scheduler_->tables().pool(0).num_held(), 0);
  EXPECT_EQ(sink->reason, FinishReason::kCancelled);
  scheduler_->Cancel(RequestId{1});  // idempotent
}

TEST_F(SchedulerTest, EndsWhatIsPastItsDeadline) {
  Make(64);
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 400;
  request.deadline = now_ + absl::Milliseconds(10);
  const auto sink = Add(1, request);
  Step();
  scheduler_->ExpireDeadlines(now_);
  EXPECT_FALSE(sink->done);
  scheduler_->ExpireDeadlines(now_ + absl::Milliseconds(20));
  EXPECT_EQ(sink->reason, FinishReason::kDeadline);
  EXPECT_EQ(scheduler_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(SchedulerTest, AFirstTokenDeadlineDoesNotCutAnAnswer) {
  Make(64);
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 4;
  request.first_token_deadline = now_ + absl::Milliseconds(10);
  const auto sink = Add(1, request);
  Step();
  scheduler_->ExpireDeadlines(now_ + absl::Seconds(1));
  RunAll();
  EXPECT_EQ(sink->reason, FinishReason::kLength);
}

TEST_F(SchedulerTest, StopsAtAStopTokenAndNamesIt) {
  Make(64);
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 10;
  const TokenId stop = FakeExecutor::NextToken(limits_, {1, 2, 3});
  request.stop_token_ids = {stop};
  const auto sink = Add(1, request);
  RunAll();
  EXPECT_EQ(sink->reason, FinishReason::kStop);
  EXPECT_EQ(sink->usage.stop_token, stop);
  EXPECT_EQ(sink->ids.size(), 1u);
}

TEST_F(SchedulerTest, RefusesWhatCanNeverRun) {
  Make(4);
  GenerateRequest request;
  EXPECT_THAT(std::string(scheduler_->Check(request).message()), HasSubstr("at least one token"));
  request.prompt = {100};
  EXPECT_THAT(std::string(scheduler_->Check(request).message()),
              HasSubstr("outside the vocabulary of 100"));
  request.prompt = {1};
  request.max_tokens = 512;
  EXPECT_THAT(std::string(scheduler_->Check(request).message()),
              HasSubstr("exceed the context of 512"));
  request.max_tokens = 64;
  EXPECT_THAT(std::string(scheduler_->Check(request).message()),
              HasSubstr("need 5 KV blocks, the cache has 4"));
}

TEST_F(SchedulerTest, ReleasesBlocksThatTheWindowHasPassed) {
  Make(64);
  limits_.groups = {{CacheRetention::kWindow, 24, 1024, 10}};
  executor_ = std::make_unique<FakeExecutor>(limits_);
  scheduler_ = std::make_unique<Scheduler>(limits_, SchedulerOptions{});
  const auto sink = Add(1, 100, 200);  // 300 positions, 19 blocks if all were kept
  int32_t most = 0;
  while (scheduler_->num_live() > 0) {
    ASSERT_FALSE(Step().slices.empty());
    most = std::max(most, scheduler_->tables().pool(0).num_held());
  }
  EXPECT_EQ(sink->ids.size(), 200u);
  EXPECT_LE(most, scheduler_->tables().BlocksFor(0, 300, limits_.max_step_tokens));
}

TEST_F(SchedulerTest, FeedsTheLastSampleWhileItIsStillOnTheDevice) {
  Make(64);
  limits_.pipeline_depth = 2;
  executor_ = std::make_unique<FakeExecutor>(limits_);
  const auto sink = Add(1, 3, 3);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(executor_->Launch(scheduler_->Plan(now_)).ok());
  EXPECT_TRUE(executor_->last_plan.slices[0].feed_last_sample);
  EXPECT_EQ(executor_->last_plan.tokens[0], -1);
  scheduler_->Commit(*executor_->Collect(), now_);
  ASSERT_TRUE(executor_->Launch(scheduler_->Plan(now_)).ok());
  scheduler_->Commit(*executor_->Collect(), now_);
  EXPECT_TRUE(scheduler_->Plan(now_).slices.empty());  // all three outputs are drawn or in flight
  scheduler_->Commit(*executor_->Collect(), now_);
  EXPECT_EQ(sink->ids.size(), 3u);
}

/// A full group of `blocks` and a recurrent one of `snapshots`.
void UseStates(ExecutorLimits& limits, std::unique_ptr<FakeExecutor>& executor,
               std::unique_ptr<Scheduler>& scheduler, int32_t snapshots) {
  limits.groups.push_back({CacheRetention::kRecurrent, 0, 1024, snapshots});
  executor = std::make_unique<FakeExecutor>(limits);
  scheduler = std::make_unique<Scheduler>(limits, SchedulerOptions());
}

TEST_F(SchedulerTest, StartsARecurrentPromptFromTheSnapshotOfItsBeginning) {
  Make(64);
  UseStates(limits_, executor_, scheduler_, 4);
  Add(1, 40, 2);
  StepPlan plan = Step();
  EXPECT_EQ(plan.slices[0].num_tokens, 32);  // the last border before the end
  EXPECT_NE(plan.slices[0].state.store, kNoBlock);
  EXPECT_EQ(Step().slices[0].num_tokens, 8);
  RunAll();
  const auto again = Add(2, 50, 2);
  plan = Step();
  EXPECT_EQ(plan.slices[0].begin, 32);
  EXPECT_NE(plan.slices[0].state.load, kNoBlock);
  RunAll();
  EXPECT_EQ(again->usage.cached_tokens, 32);
  EXPECT_EQ(scheduler_->tables().pool(1).num_held(), 0);
}

TEST_F(SchedulerTest, LeavesASnapshotWhereRecurrentPromptsPart) {
  Make(64);
  UseStates(limits_, executor_, scheduler_, 8);
  GenerateRequest request;
  request.prompt.assign(60, 7);
  request.max_tokens = 1;
  for (uint64_t id = 1; id <= 3; ++id) {
    GenerateRequest other = request;
    std::fill(other.prompt.begin() + 35, other.prompt.end(), static_cast<TokenId>(10 + id));
    const auto sink = Add(id, std::move(other));
    RunAll();
    EXPECT_EQ(sink->usage.cached_tokens, id < 3 ? 0 : 32) << id;
  }
}

TEST_F(SchedulerTest, ComputesARecurrentPromptWithoutSnapshotsWhereThereIsNoRoomForAny) {
  Make(64);
  UseStates(limits_, executor_, scheduler_, 0);
  for (uint64_t id = 1; id <= 2; ++id) {
    const auto sink = Add(id, 40, 2);
    RunAll();
    EXPECT_EQ(sink->usage.cached_tokens, 0);
  }
}

TEST_F(SchedulerTest, KeepsThePrefixesOfPromptsBeyondTheSplitApart) {
  limits_.prefix_split = 100;
  Make(64);
  const int32_t lengths[] = {90, 120, 95, 130};
  const int32_t cached[] = {0, 0, 80, 112};
  for (uint64_t id = 0; id < 4; ++id) {
    const auto sink = Add(id + 1, lengths[id], 1);
    RunAll();
    EXPECT_EQ(sink->usage.cached_tokens, cached[id]) << lengths[id];
  }
}

}  // namespace
}  // namespace penstock
