#include "executor/adapter_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "executor/local_executor.h"
#include "executor/runner_driver.h"
#include "fakes/adapter_files.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using std::string_literals::operator""s;

class AdapterStoreTest : public ::testing::Test {
 protected:
  std::shared_ptr<AdapterStore> Make(int32_t max_adapters = 2, int32_t max_rank = 16) {
    AdapterOptions options;
    options.max_adapters = max_adapters;
    options.max_in_step = 4;
    options.bounds.max_rank = max_rank;
    options.pool = &pool_;
    options.open_base = [] { return MakeFormulaSource(); };
    auto store = AdapterStore::Make(model_->config, *model_->device, options);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  std::string Refusal(const AdapterToWrite& adapter) {
    TempDir dir;
    WriteAdapter(dir, adapter);
    return Make()->Load(AdapterId(0), dir.path()).ToString();
  }
  /// Greedy tokens after a prompt.
  std::vector<TokenId> Generate(const std::shared_ptr<AdapterStore>& store, AdapterId adapter) {
    RunnerOptions options = TinyRunnerOptions();
    options.adapters = store;
    auto runner = ModelRunner::Make(model_.get(), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    RunnerDriver driver(runner->get());
    DrivenSequence s = driver.Begin(TinyPrompt(20, 3), false, adapter);
    EXPECT_EQ(driver.Run(s, 64, 12), absl::OkStatus());
    return s.tokens;
  }

  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_ = LoadTinyModel(&pool_);
};

TEST_F(AdapterStoreTest, HoldsNoMoreThanItsBudget) {
  TempDir dir;
  WriteAdapter(dir, {});
  const auto store = Make(2);
  EXPECT_EQ(store->Load(AdapterId(0), dir.path()), absl::OkStatus());
  EXPECT_EQ(store->Load(AdapterId(1), dir.path()), absl::OkStatus());
  EXPECT_EQ(store->Load(AdapterId(2), dir.path()).code(), absl::StatusCode::kResourceExhausted);
  const auto held = store->Find(AdapterId(0));
  store->Remove(AdapterId(0));
  EXPECT_EQ(store->Find(AdapterId(0)), nullptr);
  EXPECT_EQ(held->rank, 4);
  EXPECT_EQ(store->Load(AdapterId(3), dir.path()), absl::OkStatus());
}

TEST_F(AdapterStoreTest, AnAdapterOfTheLargestRankFitsWhatIsKeptForIt) {
  for (const int32_t rank : {1, 8, 16, 33, 256}) {
    AdapterToWrite adapter;
    adapter.rank = rank;
    for (const auto& [module, shape] : TinyModules()) adapter.modules.push_back(module);
    adapter.modules.erase(adapter.modules.begin(), adapter.modules.begin() + 2);
    TempDir dir;
    WriteAdapter(dir, adapter);
    const auto store = Make(1, rank);
    ASSERT_EQ(store->Load(AdapterId(0), dir.path()), absl::OkStatus());
    EXPECT_LE(store->Find(AdapterId(0))->num_bytes, MaxAdapterBytes(model_->config, {rank}));
    EXPECT_GT(store->Find(AdapterId(0))->num_bytes, MaxAdapterBytes(model_->config, {rank}) / 4);
  }
}

/// Rank 256 with all but four rows of zeros is what these four are alone.
TEST_F(AdapterStoreTest, RowsOfZerosChangeNothing) {
  AdapterToWrite small;
  for (const auto& [module, shape] : TinyModules()) small.modules.push_back(module);
  small.modules.erase(small.modules.begin(), small.modules.begin() + 2);
  std::vector<TensorToWrite> tensors = AdapterTensors(small);
  AdapterToWrite large = small;
  large.rank = 256;
  constexpr int64_t kPlaces[] = {0, 77, 130, 255};
  for (TensorToWrite& tensor : tensors) {
    const bool is_a = tensor.name.ends_with("lora_A.weight");
    const int64_t rows = tensor.shape[0];
    const int64_t cols = tensor.shape[1];
    std::vector<float> padded(is_a ? 256 * cols : rows * 256);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const int64_t to = is_a ? kPlaces[r] * cols + c : r * 256 + kPlaces[c];
        std::memcpy(&padded[to], tensor.bytes.data() + (r * cols + c) * 4, 4);
      }
    }
    tensor.shape = is_a ? std::vector<int64_t>{256, cols} : std::vector<int64_t>{rows, 256};
    tensor.bytes = BytesOf(padded);
  }
  TempDir small_dir, large_dir;
  WriteAdapter(small_dir, small);
  large.config = R"("alpha_pattern": {".*": 512}, )";  // 512 / 256 = 8 / 4
  large_dir.Write("adapter_config.json", AdapterJson(large));
  large_dir.Write("adapter_model.safetensors", SafetensorsFile(tensors));
  const auto store = Make(2, 256);
  ASSERT_EQ(store->Load(AdapterId(0), small_dir.path()), absl::OkStatus());
  ASSERT_EQ(store->Load(AdapterId(1), large_dir.path()), absl::OkStatus());
  const std::vector<TokenId> expected = Generate(store, AdapterId(0));
  EXPECT_EQ(Generate(store, AdapterId(1)), expected);
  EXPECT_NE(Generate(store, kNoAdapter), expected);
}

TEST_F(AdapterStoreTest, WhatDoesNotFitTheModelIsNamed) {
  AdapterToWrite good;
  EXPECT_EQ(Refusal(good), "OK");
  AdapterToWrite wide = good;
  wide.rank = 17;
  EXPECT_THAT(Refusal(wide), HasSubstr("rank 17, lora.max_rank is 16"));
  AdapterToWrite few = good;  // layer 1 was forgotten
  few.layers = 1;
  EXPECT_THAT(Refusal(few),
              HasSubstr("\"base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight\" is "
                        "missing"));
  AdapterToWrite chosen = few;
  chosen.config = R"("layers_to_transform": [0], )";
  EXPECT_EQ(Refusal(chosen), "OK");
  AdapterToWrite more = good;
  more.layers = 3;
  EXPECT_THAT(Refusal(more), HasSubstr("layers.2."));
  AdapterToWrite left_out = good;
  left_out.config = R"("exclude_modules": ["q_proj"], )";
  EXPECT_THAT(Refusal(left_out), HasSubstr("leaves out"));
  AdapterToWrite ranks = good;
  ranks.config = R"("rank_pattern": {"q_proj": 5}, )";
  EXPECT_THAT(Refusal(ranks), HasSubstr("has shape [4, 40], the model and adapter_config.json ask "
                                        "for [5, 40]"));
}

TEST_F(AdapterStoreTest, TensorsThatAreNotComputedWithAreRefused) {
  const std::string ones = BytesOf(std::vector<float>(4 * 40, 1.0f));
  const std::string layer = "base_model.model.model.layers.0.";
  const auto refusal_of = [&](const std::string& name) {
    AdapterToWrite adapter;
    adapter.more = {{name, "F32", {4, 40}, ones}};
    return Refusal(adapter);
  };
  for (const std::string& name :
       {layer + "mlp.experts.3.up_proj.lora_A.weight", layer + "self_attn.q_proj.lora_B.bias",
        layer + "self_attn.q_proj.lora_magnitude_vector.weight", layer + "mlp.gate.lora_A.weight",
        "base_model.model.model.wpe.lora_embedding_A"s}) {
    const std::string refusal = refusal_of(name);
    EXPECT_THAT(refusal, HasSubstr("\"" + name + "\" is not supported: it is of no layer"));
    EXPECT_THAT(refusal, HasSubstr("UNIMPLEMENTED"));
  }
  const std::string norm = refusal_of(layer + "input_layernorm.weight");
  EXPECT_THAT(norm, HasSubstr("input_layernorm.weight\" is not supported: whole weights"));
  EXPECT_THAT(norm, HasSubstr("UNIMPLEMENTED"));
  for (const std::string& name : {"base_model.model.lm_head.lora_A.weight"s,
                                  "base_model.model.model.embed_tokens.lora_embedding_A"s}) {
    EXPECT_THAT(refusal_of(name), HasSubstr("\"" + name + "\" is of a module that target_modules"));
  }
}

TEST_F(AdapterStoreTest, BadFilesAreNamed) {
  const auto refusal = [&](const TempDir& dir) {
    return Make()->Load(AdapterId(0), dir.path()).ToString();
  };
  TempDir dir;
  EXPECT_THAT(refusal(dir), HasSubstr("adapter_config.json"));
  dir.Write("adapter_config.json", AdapterJson({}));
  EXPECT_THAT(refusal(dir), HasSubstr("adapter_model.safetensors cannot be read"));
  dir.Write("adapter_model.safetensors", "");
  EXPECT_THAT(refusal(dir), HasSubstr("adapter_model.safetensors"));
  const std::string whole = SafetensorsFile(AdapterTensors({}));
  dir.Write("adapter_model.safetensors", whole.substr(0, whole.size() - 1));
  EXPECT_THAT(refusal(dir), HasSubstr("adapter_model.safetensors"));
  dir.Write("adapter_model.safetensors", SafetensorsFile(std::vector<TensorToWrite>{}));
  EXPECT_THAT(refusal(dir), HasSubstr("no tensor"));
  std::vector<TensorToWrite> tensors = AdapterTensors({});
  for (TensorToWrite& tensor : tensors) tensor.name = "vision_tower." + tensor.name;
  dir.Write("adapter_model.safetensors", SafetensorsFile(tensors));
  EXPECT_THAT(refusal(dir), HasSubstr("no linear layer of LlamaForCausalLM"));
  tensors = AdapterTensors({});
  const float nan = std::nanf("");
  std::memcpy(tensors[1].bytes.data() + 40, &nan, 4);
  dir.Write("adapter_model.safetensors", SafetensorsFile(tensors));
  EXPECT_THAT(refusal(dir), HasSubstr("no number"));
  tensors = AdapterTensors({});
  tensors[0].dtype = "I32";
  dir.Write("adapter_model.safetensors", SafetensorsFile(tensors));
  EXPECT_THAT(refusal(dir), HasSubstr("int32 [4, 40], expected a matrix of float32"));
  std::filesystem::remove(dir.path() + "/adapter_model.safetensors");
  std::filesystem::create_directory(dir.path() + "/adapter_model.safetensors");
  EXPECT_THAT(refusal(dir), HasSubstr("adapter_model.safetensors cannot be read"));
}

TEST(AdapterStore, EncodersAndOtherDevicesAreRefused) {
  WorkerPool pool(1);
  const auto model = LoadTinyModel(&pool);
  ModelConfig encoder = model->config;
  encoder.encoder.present = true;
  EXPECT_THAT(AdapterStore::Make(encoder, *model->device, {}).status().ToString(),
              HasSubstr("encoders cannot be adapted"));
}

/// Numbers that are finite, but whose products are none: only who asked for them suffers.
TEST_F(AdapterStoreTest, AnOverflowIsTheFaultOfItsSequenceAlone) {
  TempDir dir;
  WriteAdapter(dir, {.config = R"("alpha_pattern": {".*": 1000000}, )"});
  std::vector<TensorToWrite> tensors = AdapterTensors({});
  for (TensorToWrite& tensor : tensors) {
    for (size_t i = 0; i < tensor.bytes.size(); i += 4) {
      const float large = i % 8 == 0 ? 3e37f : -2e37f;
      std::memcpy(tensor.bytes.data() + i, &large, 4);
    }
  }
  dir.Write("adapter_model.safetensors", SafetensorsFile(tensors));
  const auto store = Make();
  ASSERT_EQ(store->Load(AdapterId(0), dir.path()), absl::OkStatus());
  RunnerOptions options = TinyRunnerOptions();
  options.adapters = store;
  auto runner = ModelRunner::Make(model_.get(), options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  StepPlan plan;
  for (int32_t i = 0; i < 3; ++i) {
    SlotSetup setup;
    setup.slot = SlotId(i);
    setup.sequence = SequenceId(i + 1);
    setup.prompt_tokens = 5;
    plan.setups.push_back(setup);
    SequenceSlice slice;
    slice.sequence = setup.sequence;
    slice.slot = setup.slot;
    slice.adapter = i == 1 ? AdapterId(0) : kNoAdapter;
    slice.num_tokens = 5;
    slice.token_offset = 5 * i;
    slice.num_outputs = 1;
    slice.kind = OutputKind::kToken;
    slice.blocks[0] = {i, 1};
    plan.slices.push_back(slice);
    plan.block_ids.push_back(i);
    const std::vector<TokenId> prompt = TinyPrompt(5, 1);
    plan.tokens.insert(plan.tokens.end(), prompt.begin(), prompt.end());
  }
  ASSERT_EQ((*runner)->Forward(plan), absl::OkStatus());
  const auto result = (*runner)->Sample({});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->slices.size(), 3u);
  EXPECT_EQ(result->slices[0].tokens[0].id, result->slices[2].tokens[0].id);
  EXPECT_THAT(result->slices[1].fault.ToString(), HasSubstr("too large"));
  EXPECT_TRUE(result->slices[1].tokens.empty());
  // A step that was planned meanwhile goes on from a token that there is.
  StepPlan next;
  next.tokens = {-1};
  SequenceSlice slice = plan.slices[1];
  slice.begin = 5;
  slice.num_tokens = 1;
  slice.token_offset = 0;
  slice.feed_last_sample = true;
  slice.blocks[0] = {0, 0};
  next.slices = {slice};
  EXPECT_EQ((*runner)->Forward(next), absl::OkStatus());
  EXPECT_TRUE((*runner)->Sample({}).ok());
}

class AdapterExecutorTest : public ::testing::TestWithParam<int> {};

/// A step that was launched before an adapter is unloaded still has it.
TEST_P(AdapterExecutorTest, CommandsAreInOrderWithSteps) {
  WorkerPool pool(2);
  auto model = LoadTinyModel(&pool);
  AdapterOptions adapters;
  adapters.max_adapters = 1;
  adapters.max_in_step = 1;
  adapters.pool = &pool;
  RunnerOptions options = TinyRunnerOptions();
  options.pipeline_depth = GetParam();
  options.adapters = *AdapterStore::Make(model->config, *model->device, adapters);
  auto executor = MakeLocalExecutor(std::move(model), options);
  ASSERT_TRUE(executor.ok()) << executor.status();
  EXPECT_EQ((*executor)->limits().max_adapters, 1);
  TempDir dir;
  WriteAdapter(dir, {});
  Command command{.kind = CommandKind::kLoadAdapter, .adapter = AdapterId(3), .path = dir.path()};
  ASSERT_EQ((*executor)->Control(command), absl::OkStatus());
  StepPlan plan;
  plan.step = StepId(1);
  plan.tokens = TinyPrompt(5, 1);
  plan.block_ids = {0};
  SlotSetup setup;
  setup.slot = SlotId(0);
  setup.sequence = SequenceId(1);
  setup.prompt_tokens = 5;
  plan.setups = {setup};
  SequenceSlice slice;
  slice.sequence = SequenceId(1);
  slice.slot = SlotId(0);
  slice.adapter = AdapterId(3);
  slice.num_tokens = 5;
  slice.num_outputs = 1;
  slice.kind = OutputKind::kToken;
  slice.blocks[0] = {0, 1};
  plan.slices = {slice};
  ASSERT_EQ((*executor)->Launch(plan), absl::OkStatus());
  ASSERT_EQ((*executor)->Sample(StepId(1), {}), absl::OkStatus());
  command.kind = CommandKind::kUnloadAdapter;
  ASSERT_EQ((*executor)->Control(command), absl::OkStatus());
  auto result = (*executor)->Collect();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->slices[0].tokens.size(), 1u);
  StepPlan empty;
  empty.step = StepId(2);
  ASSERT_EQ((*executor)->Launch(empty), absl::OkStatus());
  ASSERT_EQ((*executor)->Sample(StepId(2), {}), absl::OkStatus());
  result = (*executor)->Collect();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->controls.size(), 1u);
  EXPECT_EQ(options.adapters->Find(AdapterId(3)), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Depths, AdapterExecutorTest, ::testing::Values(1, 2));

}  // namespace
}  // namespace penstock
