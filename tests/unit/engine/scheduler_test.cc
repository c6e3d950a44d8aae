#include "engine/scheduler.h"

#include <algorithm>
#include <numeric>

#include "gmock/gmock.h"
#include "unit/engine/scheduler_fixture.h"

namespace penstock {
namespace {

using testing::HasSubstr;

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

TEST_F(SchedulerTest, ATenantWithNothingRunningTakesASlotFromOneWithSeveral) {
  Make(64, /*slots=*/3);
  const auto add = [&](uint64_t id, const std::string& tenant, int32_t most) {
    return AddOf(tenant, id, 10, most);
  };
  std::vector<std::shared_ptr<RecordingSink>> flood;
  for (uint64_t id = 1; id <= 6; ++id) flood.push_back(add(id, "flood", 20));
  Step();
  const auto first = add(7, "calm", 4), second = add(8, "calm", 4), other = add(9, "other", 4);
  Step();
  EXPECT_EQ(first->ids.size(), 1u);  // at once
  EXPECT_EQ(second->ids.size(), 0u);
  Step();
  EXPECT_EQ(other->ids.size(), 1u);  // one a step
  EXPECT_EQ(scheduler_->counters().num_preemptions, 2);
  const auto third = add(10, "third", 4);
  Step();
  EXPECT_EQ(third->ids.size(), 0u);  // everyone has one
  RunAll();
  for (const auto& sink : flood) EXPECT_EQ(sink->ids.size(), 20u);
  for (const auto& sink : {first, second, other, third}) EXPECT_EQ(sink->ids.size(), 4u);
  EXPECT_EQ(flood[0]->usage.num_preemptions, 0);  // the flood keeps one
}

/// The requests that a plan has slices of, by the ids of their prompts' sequences.
std::vector<uint64_t> Planned(const StepPlan& plan) {
  std::vector<uint64_t> ids;
  for (const SequenceSlice& slice : plan.slices) ids.push_back(slice.sequence.value);
  return ids;
}

TEST_F(SchedulerTest, ATenantsFirstPromptSharesItsStepWithNoPromptOfAFlood) {
  Make(64, /*slots=*/8, /*step_tokens=*/64);
  AddOf("flood", 1, 10, 20);
  Step();
  AddOf("flood", 2, 100, 4);  // two steps long
  AddOf("flood", 3, 10, 4);
  Step();
  const auto calm = AddOf("calm", 4, 20, 4);
  EXPECT_THAT(Planned(Step()), testing::ElementsAre(1, 4));  // what is being written goes on
  EXPECT_EQ(calm->ids.size(), 1u);
  const auto other = AddOf("other", 5, 20, 4);
  // The flood's are not put off twice, though one more has come.
  EXPECT_THAT(Planned(Step()), testing::ElementsAre(1, 4, 2, 5, 3));
  EXPECT_EQ(other->ids.size(), 1u);
  RunAll();
}

TEST_F(SchedulerTest, ALongFirstPromptIsReadBesideOthers) {
  Make(64, /*slots=*/8, /*step_tokens=*/64);
  AddOf("flood", 1, 10, 20);
  AddOf("flood", 2, 100, 4);
  Step();
  AddOf("calm", 3, 90, 4);
  EXPECT_THAT(Planned(Step()), testing::ElementsAre(1, 2, 3));
  RunAll();
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

TEST_F(SchedulerTest, WaitingTooLongForTheFirstStepEndsARequest) {
  Make(64);
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 4;
  request.queue_ttl = absl::Milliseconds(10);
  const auto begun = Add(1, request);
  Step();
  const auto late = Add(2, request);
  scheduler_->ExpireDeadlines(now_ + absl::Seconds(1));
  EXPECT_FALSE(begun->done);
  EXPECT_EQ(late->reason, FinishReason::kDeadline);
  RunAll();
  EXPECT_EQ(begun->reason, FinishReason::kLength);
}

TEST_F(SchedulerTest, SaysWhatWaitsByPriorityAndTenant) {
  Make(64);
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 4;
  for (int i = 0; i < 4; ++i) {
    request.priority = i == 1 ? 5 : -2;
    request.tenant = i == 3 ? "b" : "a";
    Add(i + 1, request);
  }
  const auto& levels = scheduler_->waiting().levels();
  ASSERT_EQ(levels.size(), 3);
  EXPECT_EQ(levels.begin()->second.priority, -2);
  EXPECT_EQ(levels.begin()->second.tenant, "a");
  EXPECT_EQ(levels.begin()->second.num_requests, 2);
  EXPECT_EQ(levels.begin()->second.num_tokens, 6);
  EXPECT_EQ(std::next(levels.begin())->second.tenant, "b");
  EXPECT_EQ(levels.rbegin()->second.num_requests, 1);
  Step();
  EXPECT_TRUE(levels.empty());
  EXPECT_EQ(scheduler_->counters().num_begun, 4);
  EXPECT_EQ(scheduler_->counters().begun_tokens, 12);
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

TEST_F(SchedulerTest, PromptsBesideStreamsTakeWhatFitsTheTarget) {
  itl_target_ = absl::Milliseconds(100);
  Make(100, 4, 256);
  auto stream = Add(1, 20, 400);
  Step();
  auto prompt = Add(2, 300, 1, 50);
  StepPlan plan = Step();
  ASSERT_EQ(plan.slices.size(), 2u);
  EXPECT_EQ(plan.slices[1].num_tokens, 64);
  EXPECT_EQ(scheduler_->num_planned_tokens(), 65);
  for (int i = 0; i < 3; ++i) scheduler_->ObserveStep(plan, absl::Milliseconds(65));
  plan = Step();  // a position takes a millisecond, as far as is known
  EXPECT_EQ(plan.slices[1].num_tokens, 96);
  for (int i = 0; i < 20; ++i) scheduler_->ObserveStep(plan, absl::Seconds(1));
  plan = Step();
  EXPECT_EQ(plan.slices[1].num_tokens, 16);
}

}  // namespace
}  // namespace penstock
