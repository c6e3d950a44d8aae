#include "executor/local_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

class LocalExecutorTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    RunnerOptions options = TinyRunnerOptions();
    options.pipeline_depth = GetParam();
    auto executor = MakeLocalExecutor(LoadTinyModel(&pool_), options);
    ASSERT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
  }

  /// The prompt on slot 0, or a decode that feeds the last sample.
  StepPlan Plan(uint64_t step, std::vector<TokenId> prompt, int32_t begin) {
    StepPlan plan;
    plan.step = StepId(step);
    SequenceSlice slice;
    slice.sequence = SequenceId(1);
    slice.slot = SlotId(0);
    slice.begin = begin;
    slice.kind = OutputKind::kToken;
    slice.num_outputs = 1;
    if (!prompt.empty()) {
      SlotSetup setup;
      setup.slot = SlotId(0);
      setup.sequence = SequenceId(1);
      setup.sampling.temperature = 0;
      setup.prompt_tokens = static_cast<int32_t>(prompt.size());
      plan.setups.push_back(setup);
      plan.block_ids = {0, 5, 2, 7};
      slice.blocks[0] = {0, 4};
    }
    slice.feed_last_sample = prompt.empty();
    plan.tokens = prompt.empty() ? std::vector<TokenId>{-1} : std::move(prompt);
    slice.num_tokens = static_cast<int32_t>(plan.tokens.size());
    plan.slices.push_back(slice);
    return plan;
  }

  WorkerPool pool_{2};
  std::unique_ptr<Executor> executor_;
};

TEST_P(LocalExecutorTest, GivesTheRunnersTokensWhateverTheDepth) {
  std::vector<TokenId> expected;
  {
    const auto model = LoadTinyModel(&pool_);
    auto runner = ModelRunner::Make(model.get(), TinyRunnerOptions());
    ASSERT_TRUE(runner.ok());
    RunnerDriver driver(runner->get());
    DrivenSequence s = driver.Begin(TinyPrompt(10, 1), false);
    ASSERT_TRUE(driver.Run(s, 64, 8).ok());
    expected.assign(s.tokens.begin() + 10, s.tokens.end());
  }
  std::vector<TokenId> got;
  uint64_t launched = 0;
  const auto launch = [&] {
    const StepPlan plan =
        launched == 0 ? Plan(1, TinyPrompt(10, 1), 0) : Plan(launched + 1, {}, 9 + launched);
    ASSERT_TRUE(executor_->Launch(plan).ok());
    ASSERT_TRUE(executor_->Sample(plan.step, {}).ok());
    ++launched;
  };
  while (launched < static_cast<uint64_t>(executor_->limits().pipeline_depth)) launch();
  while (got.size() < 8) {
    const auto result = executor_->Collect();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->step, StepId(got.size() + 1));
    got.push_back(result->slices.at(0).tokens.at(0).id);
    launch();
  }
  EXPECT_EQ(got, expected);
}

TEST_P(LocalExecutorTest, AppliesMasksThatArriveAfterLaunch) {
  ASSERT_TRUE(executor_->Launch(Plan(1, TinyPrompt(10, 1), 0)).ok());
  std::vector<uint32_t> words(10, 0);
  words[2] = 1u << 5;
  ASSERT_TRUE(executor_->Sample(StepId(1), {{0, 0, words}}).ok());
  words.assign(10, ~0u);  // read before Sample returned
  const auto result = executor_->Collect();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->slices[0].tokens[0].id, 69);
}

TEST_P(LocalExecutorTest, RefusesCallsOutOfOrder) {
  EXPECT_EQ(executor_->Collect().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(executor_->Sample(StepId(1), {}).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(executor_->Launch(Plan(1, TinyPrompt(10, 1), 0)).ok());
  EXPECT_EQ(executor_->Launch(Plan(2, {}, 10)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(executor_->Sample(StepId(2), {}).code(), absl::StatusCode::kFailedPrecondition);
  const uint32_t word = 1;
  EXPECT_EQ(executor_->Sample(StepId(1), {{0, 0, {&word, 1}}}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(LocalExecutorTest, AFaultIsSticky) {
  ASSERT_TRUE(executor_->Launch(Plan(1, {400}, 0)).ok());
  ASSERT_TRUE(executor_->Sample(StepId(1), {}).ok());
  EXPECT_THAT(executor_->Collect().status().ToString(), HasSubstr("token 400"));
  EXPECT_FALSE(executor_->Launch(Plan(2, TinyPrompt(3, 1), 0)).ok());
  EXPECT_FALSE(executor_->Collect().ok());
}

TEST_P(LocalExecutorTest, ReportsCommandsWithTheStepAfterThemAndRefusesOthersByName) {
  Command command;
  command.kind = CommandKind::kResetCache;
  EXPECT_TRUE(executor_->Control(command).ok());
  command.kind = CommandKind::kLoadAdapter;
  EXPECT_EQ(executor_->Control(command).code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(executor_->Control(command).ToString(), HasSubstr("load adapter"));
  ASSERT_TRUE(executor_->Launch(Plan(1, TinyPrompt(10, 1), 0)).ok());
  ASSERT_TRUE(executor_->Sample(StepId(1), {}).ok());
  const auto result = executor_->Collect();
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(result->controls, ::testing::SizeIs(1));
}

TEST_P(LocalExecutorTest, EndsWhileAStepIsInFlight) {
  ASSERT_TRUE(executor_->Launch(Plan(1, TinyPrompt(40, 1), 0)).ok());
  executor_.reset();
}

INSTANTIATE_TEST_SUITE_P(Depths, LocalExecutorTest, ::testing::Values(1, 2));

TEST(LocalExecutor, RefusesOtherDepthsAndWeights) {
  WorkerPool pool(1);
  RunnerOptions options = TinyRunnerOptions();
  options.pipeline_depth = 3;
  EXPECT_EQ(MakeLocalExecutor(LoadTinyModel(&pool), options).status().code(),
            absl::StatusCode::kInvalidArgument);
  const TempDir dir;
  dir.Write("config.json", TinyConfig());
  ExecutorOptions bad;
  bad.load.model_dir = dir.path();
  bad.load.weights = "magic";
  bad.load.pool = &pool;
  EXPECT_THAT(MakeLocalExecutor(bad).status().ToString(), HasSubstr("\"magic\""));
  bad.load.weights = "file";
  EXPECT_THAT(MakeLocalExecutor(bad).status().ToString(), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace penstock
