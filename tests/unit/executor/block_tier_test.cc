#include "executor/block_tier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/make_backend.h"
#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFullAndWindow =
    R"("sliding_window": 24, "max_window_layers": 1, "use_sliding_window": true,)";

struct TierCase {
  const char* name;
  const char* device;
  DType dtype;
  DType kv_dtype;
  bool windows = false;
  bool disk = false;
};

class BlockTierTest : public ::testing::TestWithParam<TierCase> {
 protected:
  /// Null where the build has no such device.
  std::unique_ptr<ModelRunner> MakeRunner() {
    const TierCase& c = GetParam();
    if (absl::IsUnavailable(OpenBackend({c.device, &pool_}).status())) return nullptr;
    model_ = LoadTinyModel(
        &pool_, c.windows ? TinyConfig("Qwen2ForCausalLM", kFullAndWindow) : TinyConfig(), 1,
        c.device);
    RunnerOptions options = TinyRunnerOptions();
    options.dtype = c.dtype;
    options.kv_dtype = c.kv_dtype;
    options.kv_bytes = 1 << 20;
    options.num_slots = 4;
    options.tier = {1 << 19, c.disk ? dir_.path() : ""};
    auto runner = ModelRunner::Make(model_.get(), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return *std::move(runner);
  }

  TempDir dir_;
  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_;
};

/// A step of copies of one kind and nothing else; what those to blocks took.
absl::StatusOr<absl::Duration> Move(ModelRunner& runner, std::vector<BlockMove> moves) {
  static uint64_t step = 1000;
  StepPlan plan;
  plan.step = StepId(step++);
  plan.moves = std::move(moves);
  RETURN_IF_ERROR(runner.Forward(plan));
  const bool exports = !plan.moves[0].to_block;
  ASSIGN_OR_RETURN(const StepResult result, runner.Sample({}));
  if (exports) EXPECT_GT(result.exporting, absl::ZeroDuration());
  return result.importing;
}

TEST_P(BlockTierTest, APrefixComesBackBitForBit) {
  const std::unique_ptr<ModelRunner> runner = MakeRunner();
  if (runner == nullptr) GTEST_SKIP() << "this build has no " << GetParam().device;
  const std::vector<CacheGroup>& groups = runner->limits().groups;
  ASSERT_EQ(groups.size(), GetParam().windows ? 2u : 1u);
  for (const CacheGroup& group : groups) ASSERT_GE(group.tier_blocks, 4);
  RunnerDriver driver(runner.get());
  constexpr int32_t kShared = 32;
  const std::vector<TokenId> prompt = TinyPrompt(40, 1);
  DrivenSequence first = driver.Begin(prompt, true);
  ASSERT_TRUE(driver.Run(first, 64, 1).ok());
  const auto of_sharing = [&] {
    DrivenSequence s = driver.Begin(prompt, true);
    driver.SharePrefix(first, kShared, s);
    EXPECT_TRUE(driver.Run(s, 64, 1).ok());
    std::vector<float> rows(s.logits.begin() + int64_t{kShared} * runner->limits().vocab_size,
                            s.logits.end());
    driver.End(s, kShared);
    return rows;
  };
  const std::vector<float> expected = of_sharing();
  std::vector<BlockMove> out, zeros, back;
  for (int32_t g = 0; g < static_cast<int32_t>(groups.size()); ++g) {
    for (const int32_t i : {0, 1}) {
      const BlockId block = first.blocks[g][i];
      out.push_back({g, block, 3 - i, /*to_block=*/false});
      zeros.push_back({g, block, i, /*to_block=*/true});  // of places that nothing was put to
      back.push_back({g, block, 3 - i, /*to_block=*/true});
    }
  }
  const absl::StatusOr<absl::Duration> exported = Move(*runner, out);
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_EQ(*exported, absl::ZeroDuration());
  EXPECT_EQ(of_sharing(), expected);  // the blocks are as they were
  const absl::StatusOr<absl::Duration> imported = Move(*runner, zeros);
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_GT(*imported, absl::ZeroDuration());
  EXPECT_NE(of_sharing(), expected);
  ASSERT_TRUE(Move(*runner, back).ok());
  EXPECT_EQ(of_sharing(), expected);
}

TEST_P(BlockTierTest, CopiesInThePlansOrder) {
  const std::unique_ptr<ModelRunner> runner = MakeRunner();
  if (runner == nullptr) GTEST_SKIP() << "this build has no " << GetParam().device;
  RunnerDriver driver(runner.get());
  const std::vector<TokenId> prompt = TinyPrompt(40, 1);
  DrivenSequence first = driver.Begin(prompt, true);
  ASSERT_TRUE(driver.Run(first, 64, 1).ok());
  std::vector<BlockMove> swap;  // by way of two places, one of which is used again
  for (int32_t g = 0; g < static_cast<int32_t>(runner->limits().groups.size()); ++g) {
    const BlockId a = first.blocks[g][0];
    const BlockId b = first.blocks[g][1];
    swap.push_back({g, a, 0, false});
    swap.push_back({g, b, 1, false});
    swap.push_back({g, b, 0, true});
    swap.push_back({g, a, 1, true});
    swap.push_back({g, b, 1, false});  // what was a's
    swap.push_back({g, a, 0, false});  // what was b's
    swap.push_back({g, b, 0, true});
    swap.push_back({g, a, 1, true});
  }
  ASSERT_TRUE(Move(*runner, swap).ok());
  DrivenSequence s = driver.Begin(prompt, true);
  driver.SharePrefix(first, 32, s);
  ASSERT_TRUE(driver.Run(s, 64, 1).ok());
  EXPECT_EQ(s.logits, first.logits);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, BlockTierTest,
    ::testing::Values(TierCase{"CpuFloat32", "cpu", DType::kFloat32, DType::kFloat32},
                      TierCase{"CpuBytes", "cpu", DType::kFloat32, DType::kInt8},
                      TierCase{"CpuBFloat16", "cpu", DType::kBFloat16, DType::kBFloat16},
                      TierCase{"CpuWindows", "cpu", DType::kFloat32, DType::kFloat32, true},
                      TierCase{"CpuDisk", "cpu", DType::kFloat32, DType::kFloat32, false, true},
                      TierCase{"CpuBytesWindowsDisk", "cpu", DType::kFloat32, DType::kInt8, true,
                               true},
                      TierCase{"Emulated", "cuda-emulated", DType::kBFloat16, DType::kBFloat16},
                      TierCase{"EmulatedBytesWindowsDisk", "cuda-emulated", DType::kBFloat16,
                               DType::kInt8, true, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(BlockTier, RefusesABrokenPlan) {
  WorkerPool pool(1);
  const auto model = LoadTinyModel(&pool);
  RunnerOptions options = TinyRunnerOptions();
  {
    auto runner = ModelRunner::Make(model.get(), options);
    ASSERT_TRUE(runner.ok());
    EXPECT_EQ((*runner)->limits().groups[0].tier_blocks, 0);
    EXPECT_THAT(std::string(Move(**runner, {{0, 0, 0, true}}).status().message()),
                HasSubstr("without a second tier"));
  }
  options.tier.bytes = 1 << 20;
  const auto runner = ModelRunner::Make(model.get(), options);
  ASSERT_TRUE(runner.ok());
  const CacheGroup& group = (*runner)->limits().groups[0];
  EXPECT_LE(group.tier_blocks * group.block_bytes, options.tier.bytes);
  EXPECT_GT((group.tier_blocks + 1) * group.block_bytes, options.tier.bytes);
  for (const BlockMove& move :
       {BlockMove{1, 0, 0, true}, BlockMove{-1, 0, 0, true},
        BlockMove{0, group.num_blocks, 0, false}, BlockMove{0, -1, 0, true},
        BlockMove{0, 0, group.tier_blocks, true}, BlockMove{0, 0, -1, false}})
    EXPECT_EQ(Move(**runner, {move}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Move(**runner, {{0, group.num_blocks - 1, group.tier_blocks - 1, true}}).ok());
}

TEST(BlockTier, NeedsRoomForABlockOfEachGroup) {
  WorkerPool pool(1);
  const auto model = LoadTinyModel(&pool, TinyConfig("Qwen2ForCausalLM", kFullAndWindow));
  RunnerOptions options = TinyRunnerOptions();
  options.tier.bytes = 1000;
  const absl::Status status = ModelRunner::Make(model.get(), options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("engine.kv_offload is 1000 bytes"));
}

TEST(BlockTier, IsNotMadeWhereBlocksAreNotAllThereIs) {
  WorkerPool pool(2);
  RunnerOptions options = TinyRunnerOptions();
  options.tier.bytes = 1 << 20;
  const auto has_tier = [&](LoadedModel& model, const RunnerOptions& with) {
    const auto runner = ModelRunner::Make(&model, with);
    EXPECT_TRUE(runner.ok()) << runner.status();
    int32_t places = 0;
    for (const CacheGroup& group : (*runner)->limits().groups) places += group.tier_blocks;
    return places > 0;
  };
  const auto plain = LoadTinyModel(&pool);
  EXPECT_TRUE(has_tier(*plain, options));
  EXPECT_FALSE(has_tier(*LoadTinyModel(&pool, TinyConfig(), 2), options));
  RunnerOptions drafted = options;
  const auto draft = LoadTinyModel(&pool);
  drafted.draft = draft.get();
  drafted.max_drafts = 2;
  EXPECT_FALSE(has_tier(*plain, drafted));
  LoadOptions load;
  load.model_dir = std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/families/qwen3_next";
  load.weights = "formula";
  load.pool = &pool;
  const auto recurrent = LoadModel(load);
  ASSERT_TRUE(recurrent.ok()) << recurrent.status();
  RunnerOptions states = options;
  states.max_len = 0;
  states.num_slots = 2;
  EXPECT_FALSE(has_tier(**recurrent, states));
}

}  // namespace
}  // namespace penstock
