// Drafts in the plans and results of the scheduler.
#include <algorithm>

#include "gtest/gtest.h"
#include "unit/engine/scheduler_fixture.h"

namespace penstock {
namespace {

class SchedulerDraftsTest : public SchedulerTest {};

TEST_F(SchedulerDraftsTest, AnswersTheSameInFewerStepsWithDrafts) {
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

TEST_F(SchedulerDraftsTest, LetsADraftModelGuess) {
  for (const int32_t depth : {1, 2}) {
    limits_.pipeline_depth = depth;
    limits_.max_model_drafts = 0;
    Make(64);
    const auto plain = Add(1, 100, 200);
    RunAll();
    const int64_t plain_steps = executor_->num_steps;
    limits_.max_model_drafts = 4;
    Make(64);
    const auto guessed = Add(1, 100, 200);
    const StepPlan prompt = Step();
    EXPECT_TRUE(prompt.slices[0].draft_along);
    ASSERT_EQ(prompt.setups.size(), 1u);
    EXPECT_EQ(prompt.setups[0].history.size(), 100u);
    RunAll();
    EXPECT_EQ(guessed->ids, plain->ids);
    EXPECT_LT(executor_->num_steps, plain_steps - 50);
    EXPECT_GT(scheduler_->counters().num_draft_tokens, scheduler_->counters().num_accepted_tokens);
    EXPECT_EQ(executor_->num_accepted, scheduler_->counters().num_accepted_tokens);
    EXPECT_EQ(scheduler_->tables().pool(0).num_held(), 0);
  }
}

TEST_F(SchedulerDraftsTest, DraftsNoMoreThanTheRequestMayStillHave) {
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

TEST_F(SchedulerDraftsTest, AStopTokenInsideAnAcceptedDraftEndsTheRequestThere) {
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

TEST_F(SchedulerDraftsTest, NeverDraftsFromTheOutputsOfAnotherSalt) {
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

TEST_F(SchedulerDraftsTest, NeverDraftsOnARecurrentState) {
  speculation_ = {.ngram = true, .max_tokens = 4, .min_match = 2};
  limits_.groups = {{CacheRetention::kFull, 0, 1024, 64}, {CacheRetention::kRecurrent, 0, 1024, 8}};
  EXPECT_FALSE(Scheduler::CanDraft(limits_));
  ExecutorLimits guesses = limits_;  // whose executor takes its own guesses back
  guesses.max_model_drafts = 2;
  EXPECT_TRUE(Scheduler::CanDraft(guesses));
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

TEST_F(SchedulerDraftsTest, PlansBehindAVerificationAsIfAllWereRight) {
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

TEST_F(SchedulerDraftsTest, AwaitsAVerificationRatherThanGuessOnGuesses) {
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

}  // namespace
}  // namespace penstock
