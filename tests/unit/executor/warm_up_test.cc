// What a model computes after its first steps, and which models do not get that far.
#include "executor/warm_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "executor/local_executor.h"
#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<LoadedModel> LoadGolden(const std::string& name, WorkerPool* pool) {
  LoadOptions load;
  if (name.starts_with("families/")) load.weights = "formula";
  load.model_dir = std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/" + name;
  load.pool = pool;
  auto model = LoadModel(load);
  CHECK(model.ok());
  return *std::move(model);
}

RunnerOptions FewPositions() {
  RunnerOptions options;
  options.kv_bytes = 4 << 20;
  options.num_slots = 6;
  options.max_step_tokens = 48;
  return options;
}

class WarmUpTest : public ::testing::TestWithParam<bool> {
 protected:
  std::vector<TokenId> Tokens(LoadedModel& model, bool warm) {
    auto runner = ModelRunner::Make(&model, FewPositions());
    CHECK(runner.ok());
    if (warm) {
      const absl::Status status = WarmUp(**runner, GetParam());
      EXPECT_TRUE(status.ok()) << status;
    }
    RunnerDriver driver(runner->get());
    DrivenSequence s = driver.Begin({5, 9, 2, 11, 7, 3, 1}, false);
    EXPECT_TRUE(driver.Run(s, 4, 12).ok());
    return s.tokens;
  }

  WorkerPool pool_{2};
};

TEST_P(WarmUpTest, LeavesNothingThatALaterSequenceSees) {
  // Attention, windows, a recurrent state, experts, learned positions.
  for (const char* name : {"llama", "gemma3", "qwen3_next", "mixtral", "gpt2"}) {
    const auto model = LoadGolden(std::string("families/") + name, &pool_);
    const std::vector<TokenId> cold = Tokens(*model, false);
    EXPECT_EQ(Tokens(*model, true), cold) << name;
  }
}

TEST_P(WarmUpTest, TakesEncodersAndModelsThatEmbed) {
  for (const char* name : {"bert", "bert_reranker", "qwen3_embedding", "xlm_roberta"}) {
    const auto model = LoadGolden(std::string("encoders/") + name, &pool_);
    const auto runner = ModelRunner::Make(model.get(), FewPositions());
    ASSERT_TRUE(runner.ok()) << runner.status();
    const absl::Status status = WarmUp(**runner, GetParam());
    EXPECT_TRUE(status.ok()) << name << ": " << status;
  }
}

TEST_P(WarmUpTest, FitsWhereThereIsHardlyRoom) {
  int tried = 0;
  for (const int32_t max_len : {1, 2, 16, 33}) {
    for (const int32_t blocks : {3, 4, 40}) {
      const auto model = LoadTinyModel(&pool_);
      RunnerOptions options = TinyRunnerOptions();
      options.max_len = max_len;
      options.kv_bytes = int64_t{blocks} * 16 * 2 * 2 * 2 * 20 * 4;  // layers, K and V, heads
      options.max_step_tokens = 40;
      const auto runner = ModelRunner::Make(model.get(), options);
      if (!runner.ok()) continue;  // not even one sequence fits
      ++tried;
      const absl::Status status = WarmUp(**runner, GetParam());
      EXPECT_TRUE(status.ok()) << max_len << ", " << blocks << ": " << status;
    }
  }
  EXPECT_GE(tried, 9);
}

TEST_P(WarmUpTest, TakesAModelThatIsDraftedFor) {
  const auto model = LoadTinyModel(&pool_);
  const auto draft = LoadTinyModel(&pool_);
  RunnerOptions options = TinyRunnerOptions();
  options.draft = draft.get();
  options.max_drafts = 3;
  const auto runner = ModelRunner::Make(model.get(), options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const absl::Status status = WarmUp(**runner, GetParam());
  EXPECT_TRUE(status.ok()) << status;
}

TEST_P(WarmUpTest, RefusesAModelThatComputesNoNumber) {
  const auto model = LoadTinyModel(&pool_);
  model->config.norm_eps = std::numeric_limits<float>::quiet_NaN();
  const auto runner = ModelRunner::Make(model.get(), TinyRunnerOptions());
  ASSERT_TRUE(runner.ok()) << runner.status();
  const absl::Status status = WarmUp(**runner, GetParam());
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no finite number"));
}

TEST_P(WarmUpTest, AnExecutorMakesItWhereItIsToldTo) {
  for (const bool warm : {false, true}) {
    auto model = LoadTinyModel(&pool_);
    model->config.norm_eps = std::numeric_limits<float>::quiet_NaN();
    RunnerOptions options = TinyRunnerOptions();
    options.pipeline_depth = GetParam() ? 2 : 1;
    int told = 0;
    if (warm) options.before_warm_up = [&] { ++told; };
    EXPECT_EQ(MakeLocalExecutor(std::move(model), options).ok(), !warm);
    EXPECT_EQ(told, warm ? 1 : 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Width, WarmUpTest, ::testing::Bool());

}  // namespace
}  // namespace penstock
