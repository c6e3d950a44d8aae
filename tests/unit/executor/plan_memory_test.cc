#include "executor/plan_memory.h"

#include <filesystem>
#include <string>

#include "backend/make_backend.h"
#include "base/status_macros.h"
#include "executor/runner_driver.h"
#include "executor/warm_up.h"
#include "fakes/head_checkpoint.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

const std::string kRoot = PENSTOCK_SOURCE_DIR;

absl::StatusOr<RunnerOptions> SmallRunner(LoadedModel& model, LoadedModel*) {
  RunnerOptions runner;
  runner.dtype = model.auto_dtype;
  runner.kv_dtype = model.auto_kv_dtype;
  runner.num_slots = 3;
  runner.max_step_tokens = 40;
  runner.max_len = 128;
  runner.kv_bytes = 4 * StateBytes(model.config) * runner.num_slots +
                    CacheBytesPerToken(model.config, runner.kv_dtype) * 1000;
  return runner;
}

absl::StatusOr<RunnerOptions> GuessingRunner(LoadedModel& model, LoadedModel*) {
  ASSIGN_OR_RETURN(RunnerOptions runner, SmallRunner(model, nullptr));
  runner.max_drafts = 3;
  return runner;
}

/// What the plan says against what the devices' own accounts say.
void ExpectPlanned(LoadOptions load,
                   absl::StatusOr<RunnerOptions> (*options_of)(LoadedModel&,
                                                               LoadedModel*) = SmallRunner) {
  WorkerPool pool(2);
  load.pool = &pool;
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(load, nullptr, options_of);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const int64_t before = HeldBytes();
  const auto model = LoadModel(load);
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t loaded = HeldBytes();
  const auto options = options_of(**model, nullptr);
  const auto runner = ModelRunner::Make(model->get(), *options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  EXPECT_EQ(plan->device, (*model)->device->name());
  EXPECT_EQ(plan->weight_bytes, loaded - before);
  EXPECT_EQ(plan->kv_bytes + plan->activation_bytes, HeldBytes() - loaded);
  EXPECT_GT(plan->weight_bytes, 0);
  EXPECT_GT(plan->kv_bytes, 0);
  EXPECT_EQ(plan->kv_tokens, (*runner)->limits().groups[0].num_blocks * 16);
}

/// Beside what the same runner takes without one, to the byte.
TEST(PlanMemory, IsWhatAPredictionHeadTakes) {
  for (const HeadKind kind : {HeadKind::kDeepSeek, HeadKind::kGlm, HeadKind::kQwenDelta}) {
    SCOPED_TRACE(NameOf(kind));
    WorkerPool pool(1);
    const TempDir dir;
    HeadCheckpoint(kind).Write(dir);
    LoadOptions load;
    load.model_dir = dir.path();
    load.pool = &pool;
    const auto without = PlanMemory(load, nullptr, GuessingRunner);
    ASSERT_TRUE(without.ok()) << without.status();
    load.heads = LoadHeads::kRequired;
    ExpectPlanned(load, GuessingRunner);
    const auto with = PlanMemory(load, nullptr, GuessingRunner);
    ASSERT_TRUE(with.ok()) << with.status();
    EXPECT_GT(with->weight_bytes, without->weight_bytes);
    const auto model = LoadModel(load);
    ASSERT_TRUE(model.ok()) << model.status();
    const auto more = DraftActivationBytes(**model, *GuessingRunner(**model, nullptr));
    ASSERT_TRUE(more.ok()) << more.status();
    EXPECT_EQ(with->activation_bytes, without->activation_bytes + *more);
  }
}

TEST(PlanMemory, IsWhatTheCpuHolds) {
  for (const char* quantize : {"none", "int8", "int8-channel", "int4"}) {
    SCOPED_TRACE(quantize);
    LoadOptions load;
    load.model_dir = kRoot + "/models/demo";
    load.quantize = quantize;
    ExpectPlanned(load);
  }
}

TEST(PlanMemory, IsWhatTheCpuHoldsOfEveryFamily) {
  int checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot + "/tests/goldens/families")) {
    SCOPED_TRACE(entry.path().string());
    LoadOptions load;
    load.model_dir = entry.path().string();
    load.weights = "formula";
    ExpectPlanned(load);
    ++checked;
  }
  EXPECT_GT(checked, 10);
}

TEST(PlanMemory, IsWhatTheEmulatedGpuHoldsAtStart) {
  WorkerPool pool(1);
  if (absl::IsUnavailable(OpenBackend({"cuda-emulated", &pool}).status()))
    GTEST_SKIP() << "no emulated device in this build";
  for (const char* quantize : {"none", "int8-channel", "int4"}) {
    SCOPED_TRACE(quantize);
    LoadOptions load;
    load.model_dir = kRoot + "/models/demo";
    load.device = "cuda-emulated";
    load.quantize = quantize;
    ExpectPlanned(load);
  }
}

/// Steps as wide as they may be, of prompts, of decodes and of log-probs, take no more than was
/// planned; `besides`: of the plan, what nobody here allocates.
void ExpectStepsWithin(LoadOptions load, int64_t besides) {
  WorkerPool pool(2);
  load.pool = &pool;
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(load, nullptr, SmallRunner);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto model = LoadModel(load);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto options = SmallRunner(**model, nullptr);
  EXPECT_EQ(*ActivationBytes((*model)->config, *options, 1), plan->activation_bytes);
  const auto runner = ModelRunner::Make(model->get(), *options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const int64_t before = HeldBytes();
  ASSERT_TRUE(WarmUp(**runner, /*wide=*/true).ok());
  RunnerDriver driver(runner->get());
  DrivenSequence scored = driver.Begin(std::vector<TokenId>(options->max_step_tokens, 5), true);
  ASSERT_TRUE(driver.Step({{&scored, options->max_step_tokens}}).ok());
  const int64_t logits = int64_t{(*model)->config.vocab_size} * 4;
  EXPECT_GE(HeldBytes() - before, (options->max_step_tokens + options->num_slots) * logits);
  EXPECT_LE(HeldBytes() - before, plan->step_bytes - besides);
}

TEST(PlanMemory, CoversTheWidestStepsOfTheCpu) {
  for (const char* quantize : {"none", "int8"}) {
    SCOPED_TRACE(quantize);
    LoadOptions load;
    load.model_dir = kRoot + "/models/demo";
    load.quantize = quantize;
    ExpectStepsWithin(load, 0);
  }
}

TEST(PlanMemory, CoversTheWidestStepsOfTheEmulatedGpu) {
  WorkerPool pool(1);
  if (absl::IsUnavailable(OpenBackend({"cuda-emulated", &pool}).status()))
    GTEST_SKIP() << "no emulated device in this build";
  for (const char* quantize : {"none", "int8-channel"}) {
    SCOPED_TRACE(quantize);
    LoadOptions load;
    load.model_dir = kRoot + "/models/demo";
    load.device = "cuda-emulated";
    load.quantize = quantize;
    ExpectStepsWithin(load, kGpuDriverBytes);
  }
}

TEST(PlanMemory, CountsASecondTierOfTheCacheInMemoryAlone) {
  WorkerPool pool(2);
  LoadOptions load;
  load.model_dir = kRoot + "/models/demo";
  load.pool = &pool;
  constexpr int64_t kTier = 1 << 20;
  for (const bool on_disk : {false, true}) {
    const auto with_tier = [&](LoadedModel& model,
                               LoadedModel* draft) -> absl::StatusOr<RunnerOptions> {
      auto options = SmallRunner(model, draft);
      options->tier = {kTier, on_disk ? "/nowhere" : ""};
      return options;
    };
    const absl::StatusOr<MemoryPlan> without = PlanMemory(load, nullptr, SmallRunner);
    const absl::StatusOr<MemoryPlan> plan = PlanMemory(load, nullptr, with_tier);
    ASSERT_TRUE(without.ok() && plan.ok()) << plan.status();
    EXPECT_EQ(plan->total() - without->total(), plan->tier_bytes);
    EXPECT_EQ(plan->activation_bytes, without->activation_bytes);
    EXPECT_EQ(plan->tier_bytes > 0, !on_disk);
    EXPECT_LE(plan->tier_bytes, kTier);
    if (on_disk) continue;
    const auto model = LoadModel(load);
    ASSERT_TRUE(model.ok()) << model.status();
    const int64_t loaded = HeldBytes();
    const auto runner = ModelRunner::Make(model->get(), *with_tier(**model, nullptr));
    ASSERT_TRUE(runner.ok()) << runner.status();
    EXPECT_EQ(HeldBytes() - loaded, plan->at_start() - plan->weight_bytes);
  }
}

TEST(PlanMemory, OfAGpuNeedsNone) {
  WorkerPool pool(1);
  LoadOptions load;
  load.model_dir = kRoot + "/models/demo";
  load.device = "cuda";
  load.pool = &pool;
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(load, nullptr, SmallRunner);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->device, "cuda");
  EXPECT_GT(plan->step_bytes, 0);
  EXPECT_EQ(plan->absent, OpenBackend({"cuda", &pool}).status());
  EXPECT_EQ(plan->sequences, plan->kv_tokens / 128);
}

}  // namespace
}  // namespace penstock
