// The second tier of the prefix cache as the scheduler uses it.
#include <random>

#include "scheduler_fixture.h"

namespace penstock {
namespace {

constexpr int32_t kBlock = 16;

class SchedulerTierTest : public SchedulerTest {
 protected:
  static GenerateRequest RequestOf(int32_t kind, int32_t prompt_tokens, int32_t max_tokens = 2) {
    GenerateRequest request;
    std::mt19937 random(kind);
    for (int32_t t = 0; t < prompt_tokens; ++t)
      request.prompt.push_back(static_cast<TokenId>(random() % 100));
    request.max_tokens = max_tokens;
    return request;
  }
  /// Until it is done; its tokens must be those of its prompt.
  Usage RunOne(GenerateRequest request) {
    std::vector<TokenId> history = request.prompt;
    const auto sink = Add(next_id_++, std::move(request));
    RunAll();
    for (const TokenId id : sink->ids) {
      EXPECT_EQ(id, FakeExecutor::NextToken(limits_, history));
      history.push_back(id);
    }
    EXPECT_TRUE(sink->done);
    return sink->usage;
  }
  /// Prompts that take all of the device's blocks.
  void Evict() {
    for (int32_t i = 0; i < 2; ++i) RunOne(RequestOf(1000 + next_kind_++, 112));
  }
  static int32_t Imports(const StepPlan& plan) {
    int32_t count = 0;
    for (const BlockMove& move : plan.moves) count += move.to_block ? 1 : 0;
    return count;
  }
  const CacheTier& tier() const { return scheduler_->tables().tier(); }

  uint64_t next_id_ = 1;
  int32_t next_kind_ = 0;
};

TEST_F(SchedulerTierTest, GivesBackWhatTheDeviceHadToForget) {
  tier_blocks_ = 40;
  Make(8);
  EXPECT_EQ(RunOne(RequestOf(1, 70)).cached_tokens, 0);
  Evict();
  EXPECT_EQ(scheduler_->counters().prefix_hit_tokens, 0);
  const int64_t computed = executor_->num_computed;
  EXPECT_EQ(RunOne(RequestOf(1, 70)).cached_tokens, 4 * kBlock);
  EXPECT_EQ(executor_->num_computed - computed, 70 - 4 * kBlock + 1);
  EXPECT_EQ(executor_->num_imported, 4);
  EXPECT_EQ(scheduler_->counters().tier_hit_tokens, 4 * kBlock);
  EXPECT_EQ(scheduler_->counters().tier_queried_tokens, 70 + 2 * 112 + 70);
  EXPECT_EQ(scheduler_->counters().prefix_hit_tokens, 0);  // counted apart
  EXPECT_EQ(tier().num_held(), 0);
  // Now they are on the device again.
  EXPECT_EQ(RunOne(RequestOf(1, 70)).cached_tokens, 4 * kBlock);
  EXPECT_EQ(executor_->num_imported, 4);
  EXPECT_EQ(scheduler_->counters().prefix_hit_tokens, 4 * kBlock);
}

TEST_F(SchedulerTierTest, WithoutOneItIsComputedAgain) {
  Make(8);
  RunOne(RequestOf(1, 70));
  Evict();
  EXPECT_EQ(RunOne(RequestOf(1, 70)).cached_tokens, 0);
  EXPECT_EQ(scheduler_->counters().tier_queried_tokens, 0);
}

TEST_F(SchedulerTierTest, GoesOnWhereTheDevicesPartOfAPrefixEnds) {
  tier_blocks_ = 40;
  Make(8);
  RunOne(RequestOf(1, 70));
  RunOne(
      RequestOf(2, 5 * kBlock + 1, 1));  // takes the four blocks that are empty, and two of the end
  EXPECT_EQ(RunOne(RequestOf(1, 70)).cached_tokens, 4 * kBlock);
  EXPECT_EQ(scheduler_->counters().prefix_hit_tokens, 2 * kBlock);
  EXPECT_EQ(scheduler_->counters().tier_hit_tokens, 2 * kBlock);
  EXPECT_EQ(executor_->num_imported, 2);
}

TEST_F(SchedulerTierTest, FindsNothingUnderAnotherSaltOrAfterAReset) {
  tier_blocks_ = 40;
  Make(8);
  GenerateRequest mine = RequestOf(1, 70);
  mine.cache_salt = "mine";
  RunOne(mine);
  Evict();
  EXPECT_EQ(RunOne(RequestOf(1, 70)).cached_tokens, 0);
  GenerateRequest theirs = RequestOf(1, 70);
  theirs.cache_salt = "theirs";
  EXPECT_EQ(RunOne(theirs).cached_tokens, 0);
  Evict();
  EXPECT_EQ(RunOne(mine).cached_tokens, 4 * kBlock);
  Evict();
  scheduler_->ResetCache();
  EXPECT_EQ(RunOne(mine).cached_tokens, 0);
}

TEST_F(SchedulerTierTest, CopiesNoMoreInAStepThanItHasTimeFor) {
  tier_blocks_ = 60;
  Make(12, 4, /*step_tokens=*/32);
  RunOne(RequestOf(1, 10 * kBlock + 1, 1));
  for (int32_t i = 0; i < 2; ++i) RunOne(RequestOf(50 + i, 11 * kBlock, 1));
  Add(99, RequestOf(1, 10 * kBlock + 1, 1));
  // Nothing is known of copies: one counts as computing its positions.
  for (int32_t step = 0; step < 5; ++step) EXPECT_EQ(Imports(Step()), 2);
  const StepPlan last = Step();
  EXPECT_EQ(Imports(last), 0);
  EXPECT_EQ(last.slices.size(), 1u);
  EXPECT_EQ(last.slices[0].begin, 10 * kBlock);
  RunAll();
}

TEST_F(SchedulerTierTest, CopiesAsManyAsWasMeasured) {
  tier_blocks_ = 60;
  step_time_ = absl::Milliseconds(32);  // a millisecond for a position
  Make(12, 4, /*step_tokens=*/32);
  executor_->import_time = absl::Milliseconds(4);
  const GenerateRequest wanted = RequestOf(1, 10 * kBlock + 1, 1);
  const auto evict = [&] {
    for (int32_t i = 0; i < 2; ++i) RunOne(RequestOf(1000 + next_kind_++, 10 * kBlock, 1));
  };
  RunOne(wanted);
  evict();
  EXPECT_EQ(RunOne(wanted).cached_tokens, 10 * kBlock);  // and measured
  evict();
  Add(99, wanted);
  const int32_t first = Imports(Step());
  EXPECT_EQ(first, 8);  // four positions' time each, of 32
  RunAll();
}

TEST_F(SchedulerTierTest, ComputesWhatWouldBeCopiedMoreSlowly) {
  tier_blocks_ = 60;
  step_time_ = absl::Milliseconds(32);
  Make(12, 4, /*step_tokens=*/32);
  executor_->import_time = absl::Seconds(1);
  const GenerateRequest wanted = RequestOf(1, 10 * kBlock + 1, 1);
  RunOne(wanted);
  Evict();
  EXPECT_EQ(RunOne(wanted).cached_tokens, 2 * kBlock);  // of one step, to measure it
  EXPECT_EQ(scheduler_->counters().tier_hit_tokens, 2 * kBlock);
  EXPECT_EQ(tier().num_held(), 0);
  const int64_t imported = executor_->num_imported;
  Evict();
  EXPECT_EQ(RunOne(wanted).cached_tokens, 0);
  EXPECT_EQ(executor_->num_imported, imported);
}

TEST_F(SchedulerTierTest, ExportsTakeATenthOfTheTimeAtMost) {
  tier_blocks_ = 4000;
  step_time_ = absl::Milliseconds(32);
  Make(12, 4, /*step_tokens=*/32);
  const auto run = [&](absl::Duration export_time) {
    executor_->export_time = export_time;
    const int64_t exported = executor_->num_exported;
    const int64_t lost = tier().num_lost();
    const int64_t steps = executor_->num_steps;
    for (int32_t i = 0; i < 200; ++i) RunOne(RequestOf(next_kind_++, 10 * kBlock, 1));
    const double share = (executor_->num_exported - exported) *
                         absl::FDivDuration(export_time, step_time_) /
                         static_cast<double>(executor_->num_steps - steps);
    return std::pair{share, tier().num_lost() - lost};
  };
  const auto [quick, lost_by_quick] = run(absl::Microseconds(100));
  EXPECT_GT(quick, 0);
  EXPECT_EQ(lost_by_quick, 0);
  const auto [slow, lost_by_slow] = run(absl::Milliseconds(100));
  EXPECT_GT(lost_by_slow, 0);
  EXPECT_GT(slow, 0.05);
  EXPECT_LT(slow, 0.2);  // of the time beside it, and a credit at the start
}

TEST_F(SchedulerTierTest, StepsThatOnlyCopySayNothingOfComputing) {
  tier_blocks_ = 60;
  Make(12, 4, /*step_tokens=*/32);
  StepPlan plan;
  plan.moves.push_back({0, 0, 0, /*to_block=*/true});
  scheduler_->ObserveStep(plan, absl::Seconds(9), absl::Seconds(9));
  // One of 9 s for a block; of positions nothing is known, so it counts as computing.
  RunOne(RequestOf(1, 5 * kBlock + 1, 1));
  Evict();
  EXPECT_EQ(RunOne(RequestOf(1, 5 * kBlock + 1, 1)).cached_tokens, 5 * kBlock);
}

TEST_F(SchedulerTierTest, OfATierThatIsSmallerThanAPromptTheEndIsComputed) {
  tier_blocks_ = 3;
  Make(8);
  for (int32_t round = 0; round < 4; ++round) {
    const Usage usage = RunOne(RequestOf(1, 70));
    EXPECT_LE(usage.cached_tokens, 3 * kBlock);
    Evict();
  }
  EXPECT_EQ(tier().num_used(), 3);
  EXPECT_GT(tier().num_evicted(), 0);
}

TEST_F(SchedulerTierTest, LetsGoOfItsPlacesWhereItIsCancelledHalfway) {
  tier_blocks_ = 60;
  Make(12, 4, /*step_tokens=*/32);
  RunOne(RequestOf(1, 10 * kBlock + 1, 1));
  for (int32_t i = 0; i < 2; ++i) RunOne(RequestOf(50 + i, 11 * kBlock, 1));
  Add(99, RequestOf(1, 10 * kBlock + 1, 1));
  EXPECT_EQ(Imports(Step()), 2);
  EXPECT_EQ(tier().num_held(), 8);
  scheduler_->Cancel(RequestId{99});
  EXPECT_EQ(tier().num_held(), 0);
  EXPECT_EQ(scheduler_->tables().pool(0).num_held(), 0);
  EXPECT_EQ(RunOne(RequestOf(1, 10 * kBlock + 1, 1)).cached_tokens, 10 * kBlock);
}

TEST_F(SchedulerTierTest, TwoWithOnePrefixShareWhatIsCopied) {
  tier_blocks_ = 60;
  Make(24, 4, /*step_tokens=*/32);
  RunOne(RequestOf(1, 10 * kBlock + 1, 1));
  for (int32_t i = 0; i < 4; ++i) RunOne(RequestOf(50 + i, 11 * kBlock, 1));
  ASSERT_EQ(executor_->num_imported, 0);
  const auto a = Add(98, RequestOf(1, 10 * kBlock + 1, 1));
  const auto b = Add(99, RequestOf(1, 10 * kBlock + 2, 1));
  RunAll();
  EXPECT_EQ(executor_->num_imported, 10);
  EXPECT_EQ(a->usage.cached_tokens, 10 * kBlock);
  EXPECT_EQ(b->usage.cached_tokens, 10 * kBlock);
}

}  // namespace
}  // namespace penstock
