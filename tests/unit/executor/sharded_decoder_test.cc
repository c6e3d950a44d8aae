// Models whose layers several ranks share, as the runner, the executor and the engine see them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <stdexcept>
#include <thread>

#include "executor/local_executor.h"
#include "executor/plan_memory.h"
#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::vector<TokenId> GreedyOf(LoadedModel* model, const RunnerOptions& options, int32_t chunk) {
  auto runner = ModelRunner::Make(model, options);
  CHECK(runner.ok());
  RunnerDriver driver(runner->get());
  DrivenSequence s = driver.Begin(TinyPrompt(40, 3), false);
  CHECK(driver.Run(s, chunk, 30).ok());
  return s.tokens;
}

class ShardedDecoderTest : public ::testing::TestWithParam<std::string> {
 protected:
  WorkerPool pool_{3};
};

TEST_P(ShardedDecoderTest, AnswersAsTheWholeModelDoes) {
  const std::string config = TinyConfig(GetParam());
  const auto whole = LoadTinyModel(&pool_, config);
  const auto shared = LoadTinyModel(&pool_, config, 2);
  ASSERT_EQ(shared->ranks.size(), 2);
  EXPECT_EQ(shared->ranks[1].pool->num_threads(), 1);  // of three, one each and one at rest
  EXPECT_EQ(GreedyOf(shared.get(), TinyRunnerOptions(), 64),
            GreedyOf(whole.get(), TinyRunnerOptions(), 64));
  EXPECT_EQ(GreedyOf(shared.get(), TinyRunnerOptions(), 7),
            GreedyOf(whole.get(), TinyRunnerOptions(), 64));
}

INSTANTIATE_TEST_SUITE_P(Architectures, ShardedDecoderTest,
                         ::testing::Values("LlamaForCausalLM", "Qwen2ForCausalLM",
                                           "Qwen3ForCausalLM", "GemmaForCausalLM"));

TEST(ShardedWeights, AreThoseOfTheWholeModelOnce) {
  WorkerPool pool(2);
  const auto whole = LoadTinyModel(&pool);
  const auto shared = LoadTinyModel(&pool, TinyConfig(), 2);
  EXPECT_EQ(shared->weights.layers.size(), 0);
  for (size_t i = 0; i < whole->weights.layers.size(); ++i) {
    int64_t qkv = 0, o = 0, gate_up = 0, down = 0;
    for (const LoadedRank& rank : shared->ranks) {
      const LayerWeights& w = rank.weights.layers[i];
      qkv += w.qkv.n * w.qkv.k;
      o += w.o.n * w.o.k;
      gate_up += w.gate_up.n * w.gate_up.k;
      down += w.down.n * w.down.k;
    }
    const LayerWeights& w = whole->weights.layers[i];
    EXPECT_EQ(qkv, w.qkv.n * w.qkv.k);
    EXPECT_EQ(o, w.o.n * w.o.k);
    EXPECT_EQ(gate_up, w.gate_up.n * w.gate_up.k);
    EXPECT_EQ(down, w.down.n * w.down.k);
  }
  EXPECT_EQ(shared->ranks[0].weights.lm_head.n + shared->ranks[1].weights.lm_head.n, 317);
  EXPECT_EQ(shared->ranks[0].weights.embedding.rows + shared->ranks[1].weights.embedding.rows, 317);
}

TEST(ShardedCache, TakesWhatTheWholeModelsTakes) {
  WorkerPool pool(2);
  const auto whole = LoadTinyModel(&pool);
  const auto shared = LoadTinyModel(&pool, TinyConfig(), 2);
  const auto one = ModelRunner::Make(whole.get(), TinyRunnerOptions());
  const auto two = ModelRunner::Make(shared.get(), TinyRunnerOptions());
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ((*two)->limits().groups[0].block_bytes, (*one)->limits().groups[0].block_bytes);
  EXPECT_EQ((*two)->limits().groups[0].num_blocks, (*one)->limits().groups[0].num_blocks);
  // Two ranks each keep the only KV head: a position takes twice the room.
  const std::string one_head =
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 40, "intermediate_size": 72,
      "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 20,
      "vocab_size": 317, "max_position_embeddings": 512, "rms_norm_eps": 1e-5})";
  const auto alone = LoadTinyModel(&pool, one_head);
  const auto both = LoadTinyModel(&pool, one_head, 2);
  const auto alone_runner = ModelRunner::Make(alone.get(), TinyRunnerOptions());
  const auto both_runner = ModelRunner::Make(both.get(), TinyRunnerOptions());
  const CacheGroup& once = (*alone_runner)->limits().groups[0];
  const CacheGroup& twice = (*both_runner)->limits().groups[0];
  EXPECT_EQ(twice.block_bytes, 2 * once.block_bytes);
  EXPECT_EQ(twice.num_blocks, once.num_blocks / 2);
  EXPECT_LE(int64_t{twice.num_blocks} * twice.block_bytes, TinyRunnerOptions().kv_bytes);
  EXPECT_EQ(CacheBytesPerToken(both->config, DType::kFloat32, 2), twice.block_bytes / 16);
}

TEST(ShardedPlan, CountsAllRanks) {
  WorkerPool pool(2);
  TempDir dir;
  dir.Write("config.json", TinyConfig());
  LoadOptions load;
  load.model_dir = dir.path();
  load.weights = "formula";
  load.pool = &pool;
  const auto options = [](LoadedModel&, LoadedModel*) -> absl::StatusOr<RunnerOptions> {
    return TinyRunnerOptions();
  };
  const auto one = PlanMemory(load, nullptr, options);
  load.tensor_parallel = 2;
  const auto two = PlanMemory(load, nullptr, options);
  ASSERT_TRUE(one.ok() && two.ok()) << one.status() << two.status();
  EXPECT_EQ(one->ranks, 1);
  EXPECT_EQ(two->ranks, 2);
  EXPECT_EQ(two->kv_bytes, one->kv_bytes);
  EXPECT_EQ(two->kv_tokens, one->kv_tokens);
  EXPECT_GE(two->weight_bytes, one->weight_bytes);  // norms are there twice, panels are filled up
  EXPECT_LE(two->weight_bytes, one->weight_bytes * 5 / 4);
  EXPECT_GT(two->activation_bytes, one->activation_bytes);
}

TEST(ShardedModel, IsRefusedWithTheReason) {
  WorkerPool pool(2);
  TempDir dir;
  dir.Write("config.json", TinyConfig());
  LoadOptions load;
  load.model_dir = dir.path();
  load.weights = "formula";
  load.pool = &pool;
  load.tensor_parallel = 4;
  EXPECT_THAT(LoadModel(load).status().ToString(),
              HasSubstr("6 heads and 2 KV heads do not divide"));
  load.tensor_parallel = 9;
  EXPECT_THAT(LoadModel(load).status().ToString(), HasSubstr("expected 1 to 8 ranks"));
  load.tensor_parallel = 2;
  load.packed_cache = dir.path();
  EXPECT_THAT(LoadModel(load).status().ToString(), HasSubstr("packed_cache"));
  load.packed_cache.clear();
  // Columns of down in groups of 32, of which each rank would have two and a half.
  TempDir wide;
  wide.Write("config.json", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
      "intermediate_size": 160, "num_hidden_layers": 1, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 317, "max_position_embeddings": 512,
      "rms_norm_eps": 1e-5})");
  load.model_dir = wide.path();
  load.quantize = "int8";
  EXPECT_THAT(
      LoadModel(load).status().ToString(),
      HasSubstr("tensor_parallel: 2, rank 0: model.layers.0.mlp.down_proj: columns 0 to 80"));
  load.quantize = "int8-channel";
  EXPECT_TRUE(LoadModel(load).ok());
}

/// One prompt in slot 0, as the engine would plan it.
StepPlan PromptPlan() {
  StepPlan plan;
  plan.step = StepId(1);
  SlotSetup setup;
  setup.slot = SlotId(0);
  setup.sequence = SequenceId(1);
  setup.sampling.temperature = 0;
  setup.prompt_tokens = 5;
  plan.setups.push_back(setup);
  plan.tokens = {1, 2, 3, 4, 5};
  plan.block_ids = {0};
  SequenceSlice slice;
  slice.sequence = SequenceId(1);
  slice.slot = SlotId(0);
  slice.num_tokens = 5;
  slice.kind = OutputKind::kToken;
  slice.num_outputs = 1;
  slice.blocks[0] = {0, 1};
  plan.slices.push_back(slice);
  return plan;
}

class RankFaultTest : public ::testing::TestWithParam<int> {
 protected:
  absl::StatusOr<StepResult> RunOneStep(std::function<void(int32_t)> before_pass,
                                        absl::Duration patience) {
    RunnerOptions options = TinyRunnerOptions();
    options.pipeline_depth = GetParam();
    options.rank_patience = patience;
    options.before_pass = std::move(before_pass);
    auto executor = MakeLocalExecutor(LoadTinyModel(&pool_, TinyConfig(), 2), options);
    CHECK(executor.ok());
    executor_ = *std::move(executor);
    RETURN_IF_ERROR(executor_->Launch(PromptPlan()));
    RETURN_IF_ERROR(executor_->Sample(StepId(1), {}));
    return executor_->Collect();
  }

  WorkerPool pool_{2};
  std::unique_ptr<Executor> executor_;
};

TEST_P(RankFaultTest, NoFaultIsAToken) {
  const auto result = RunOneStep(nullptr, absl::Seconds(60));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->slices[0].tokens.size(), 1);
}

TEST_P(RankFaultTest, ARankThatThrowsIsAStickyFaultWithItsName) {
  const auto result = RunOneStep(
      [](int32_t rank) {
        if (rank == 1) throw std::runtime_error("the sky fell");
      },
      absl::Seconds(600));  // the other leaves at once
  EXPECT_EQ(result.status().message(), "device fault: rank 1 of 2 has died: the sky fell");
  EXPECT_EQ(executor_->Launch(PromptPlan()), result.status());
  EXPECT_EQ(executor_->Collect().status(), result.status());
}

TEST_P(RankFaultTest, ARankThatStallsIsAFaultAndNobodyWaitsForIt) {
  // Both outlive the thread, which goes on when the test is over.
  const auto released = std::make_shared<std::latch>(1);
  const auto left = std::make_shared<std::atomic<bool>>(false);
  const auto result = RunOneStep(
      [released, left](int32_t rank) {
        if (rank != 1) return;
        released->wait();
        left->store(true);
      },
      absl::Milliseconds(300));
  EXPECT_THAT(result.status().message(), HasSubstr("device fault: rank 1 of 2 has stalled"));
  executor_.reset();  // does not wait either
  EXPECT_FALSE(left->load());
  released->count_down();
  while (!left->load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

INSTANTIATE_TEST_SUITE_P(Depths, RankFaultTest, ::testing::Values(1, 2));

}  // namespace
}  // namespace penstock
