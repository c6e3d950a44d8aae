// A scheduler over a fake executor, stepped by hand.
// Owns both. Must not know what a test wants of them.
// Threads: confined to the test's thread.
#pragma once

#include <memory>
#include <numeric>

#include "engine/scheduler.h"
#include "fakes/fake_executor.h"
#include "gtest/gtest.h"

namespace penstock {

class SchedulerTest : public testing::Test {
 protected:
  void Make(int32_t blocks, int32_t slots = 4, int32_t step_tokens = 64,
            QueuePolicy policy = QueuePolicy::kPriority) {
    limits_.groups = {{CacheRetention::kFull, 0, 1024, blocks, tier_blocks_}};
    limits_.num_slots = slots;
    limits_.max_step_tokens = step_tokens;
    limits_.max_context = 512;
    limits_.vocab_size = 100;
    executor_ = std::make_unique<FakeExecutor>(limits_);
    SchedulerOptions options;
    options.policy = policy;
    options.speculation = speculation_;
    options.itl_target = itl_target_;
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
  /// With a prompt that no other has the start of.
  std::shared_ptr<RecordingSink> AddOf(const std::string& tenant, uint64_t id,
                                       int32_t prompt_tokens, int32_t max_tokens) {
    GenerateRequest request;
    for (int32_t t = 0; t < prompt_tokens; ++t)
      request.prompt.push_back(static_cast<TokenId>((11 * id + t) % 100));
    request.max_tokens = max_tokens;
    request.tenant = tenant;
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
    if (plan.slices.empty() && plan.moves.empty()) return plan;
    CHECK(executor_->Launch(plan).ok());
    const absl::StatusOr<StepResult> result = executor_->Collect();
    if (step_time_ > absl::ZeroDuration())
      scheduler_->ObserveStep(plan, step_time_ + result->importing + result->exporting,
                              result->importing, result->exporting);
    scheduler_->Commit(*result, now_);
    return plan;
  }
  void RunAll() {
    while (scheduler_->num_live() > 0) {
      const StepPlan plan = Step();
      ASSERT_FALSE(plan.slices.empty() && plan.moves.empty());
    }
  }

  ExecutorLimits limits_;
  SpeculationOptions speculation_;
  absl::Duration itl_target_ = absl::ZeroDuration();
  absl::Duration step_time_;  // that the scheduler is told, beside imports; 0: nothing is
  int32_t tier_blocks_ = 0;
  std::unique_ptr<FakeExecutor> executor_;
  std::unique_ptr<Scheduler> scheduler_;
  absl::Time now_ = absl::FromUnixSeconds(1);
};

}  // namespace penstock
