// Adapters of head, embedding, experts and routers: which names they are found by, what is refused,
// and the memory that is kept for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/half.h"
#include "executor/adapter_store.h"
#include "executor/plan_memory.h"
#include "executor/runner_driver.h"
#include "fakes/adapter_files.h"
#include "fakes/tiny_model.h"
#include "model/host_tensor.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kExperts = 4;
constexpr int64_t kInner = 24, kShared = 28;

std::string MoeConfig(bool tied = false) {
  return TinyConfig("Qwen2MoeForCausalLM",
                    R"("num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                       "shared_expert_intermediate_size": 28, "decoder_sparse_step": 1,
                       "tie_word_embeddings": )" +
                        std::string(tied ? "true," : "false,"));
}

/// An adapter's files, module by module.
class Written {
 public:
  explicit Written(int64_t rank = 4) : rank_(rank) {}
  Written& Add(const std::string& module, int64_t n, int64_t k) {
    for (TensorToWrite& factor : FactorsOf(module, n, k, rank_, random_))
      tensors_.push_back(std::move(factor));
    return *this;
  }
  Written& AddEmbedding() {
    Add("model.embed_tokens", 40, 317);
    tensors_[tensors_.size() - 2].name = "base_model.model.model.embed_tokens.lora_embedding_A";
    tensors_[tensors_.size() - 1].name = "base_model.model.model.embed_tokens.lora_embedding_B";
    return *this;
  }
  Written& AddTensor(TensorToWrite tensor) {
    tensors_.push_back(std::move(tensor));
    return *this;
  }
  Written& AddExpert(int32_t layer, int32_t expert) {
    const std::string name =
        "model.layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(expert) + ".";
    return Add(name + "gate_proj", kInner, 40)
        .Add(name + "up_proj", kInner, 40)
        .Add(name + "down_proj", 40, kInner);
  }
  Written& AddShared(int32_t layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".mlp.shared_expert.";
    return Add(name + "gate_proj", kShared, 40)
        .Add(name + "up_proj", kShared, 40)
        .Add(name + "down_proj", 40, kShared);
  }
  void WriteTo(const TempDir& dir, const std::string& targets, const std::string& more = "") {
    dir.Write("adapter_config.json", "{" + more + R"("peft_type": "LORA", "lora_alpha": 8, "r": )" +
                                         std::to_string(rank_) + R"(, "target_modules": )" +
                                         targets + "}");
    dir.Write("adapter_model.safetensors", SafetensorsFile(tensors_));
  }

 private:
  const int64_t rank_;
  std::mt19937 random_{3};
  std::vector<TensorToWrite> tensors_;
};

class AdapterModulesTest : public ::testing::Test {
 protected:
  void Use(const std::string& config) { model_ = LoadTinyModel(&pool_, config); }
  std::shared_ptr<AdapterStore> Make(const AdapterBounds& bounds) {
    AdapterOptions options;
    options.max_adapters = 2;
    options.max_in_step = 2;
    options.bounds = bounds;
    options.pool = &pool_;
    options.open_base = [] { return MakeFormulaSource(); };
    auto store = AdapterStore::Make(model_->config, *model_->device, options);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  std::string Load(Written& adapter, const std::string& targets, bool experts = true,
                   const std::string& more = "") {
    const TempDir dir;
    adapter.WriteTo(dir, targets, more);
    store_ = Make({16, experts});
    return store_->Load(AdapterId(0), dir.path()).ToString();
  }

  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_ = LoadTinyModel(&pool_, MoeConfig());
  std::shared_ptr<AdapterStore> store_;
};

TEST_F(AdapterModulesTest, HeadAndEmbeddingAreFoundWithoutLayers) {
  Written head;
  head.Add("lm_head", 317, 40);
  EXPECT_EQ(Load(head, R"(["lm_head"])"), "OK");
  EXPECT_EQ(store_->Find(AdapterId(0))->head.parts.size(), 1u);
  Written embedding;
  embedding.AddEmbedding();
  EXPECT_EQ(Load(embedding, R"(["embed_tokens"])"), "OK");
  EXPECT_EQ(store_->Find(AdapterId(0))->embedding.table.rows, 317);
  EXPECT_THAT(Load(embedding, R"(["embed_tokens", "lm_head"])"),
              HasSubstr("lm_head.lora_A.weight\" is missing"));
  EXPECT_THAT(Load(head, R"(["embed_tokens", "lm_head"])"),
              HasSubstr("embed_tokens.lora_embedding_A\" is missing"));
  Written turned;
  turned.Add("lm_head", 40, 317);
  EXPECT_THAT(Load(turned, R"(["lm_head"])"), HasSubstr("ask for [4, 40]"));
}

TEST_F(AdapterModulesTest, SharedFactorsOfTiedWeightsAreRefused) {
  Written head;
  head.Add("lm_head", 317, 40);
  const std::string tie = R"("ensure_weight_tying": true, )";
  EXPECT_EQ(Load(head, R"(["lm_head"])", true, tie), "OK");  // nothing is tied
  Use(MoeConfig(/*tied=*/true));
  EXPECT_THAT(Load(head, R"(["lm_head"])", true, tie), HasSubstr("ensure_weight_tying"));
  EXPECT_EQ(Load(head, R"(["lm_head"])"), "OK");
  Written embedding;
  embedding.AddEmbedding();
  EXPECT_THAT(Load(embedding, R"(["embed_tokens"])", true, tie), HasSubstr("ensure_weight_tying"));
}

/// A table of the tiny model's as training software saves it beside factors.
TensorToWrite CopyOf(const std::string& own, const std::string& name, const std::string& dtype,
                     size_t altered = SIZE_MAX) {
  const auto table = MakeFormulaSource()->Get(own, {317, 40});
  EXPECT_TRUE(table.ok()) << table.status();
  std::vector<float> values = Widen(*table);
  if (altered < values.size()) values[altered] += 0.25f;
  TensorToWrite copy{"base_model.model." + name, dtype, {317, 40}, BytesOf(values)};
  if (dtype == "F32") return copy;
  std::vector<uint16_t> halves;
  for (const float value : values)
    halves.push_back(dtype == "F16" ? FloatToFp16(value) : FloatToBf16(value));
  copy.bytes = BytesOf(halves);
  return copy;
}

TEST_F(AdapterModulesTest, CopiesOfTheModelsOwnTablesArePassedOver) {
  const std::string head = "lm_head.weight", embedding = "model.embed_tokens.weight";
  const std::string own_head = "lm_head.base_layer.weight",
                    own_embedding = "model.embed_tokens.base_layer.weight";
  const std::string targets = R"(["lm_head", "embed_tokens"])";
  Written plain;
  plain.Add("lm_head", 317, 40).AddEmbedding();
  const auto with = [&](const TensorToWrite& first, const TensorToWrite& second) {
    Written adapter = plain;
    adapter.AddTensor(first).AddTensor(second);
    return Load(adapter, targets);
  };
  for (const std::string dtype : {"BF16", "F16", "F32"}) {
    EXPECT_EQ(with(CopyOf(head, own_head, dtype), CopyOf(embedding, own_embedding, dtype)), "OK");
    for (const size_t altered : {size_t{0}, size_t{317 * 40 - 1}}) {
      EXPECT_THAT(
          with(CopyOf(head, own_head, dtype, altered), CopyOf(embedding, own_embedding, dtype)),
          HasSubstr("\"base_model.model.lm_head.base_layer.weight\" is not supported: it "
                    "differs from the model's own"));
    }
    EXPECT_THAT(with(CopyOf(head, own_head, dtype), CopyOf(embedding, own_embedding, dtype, 10279)),
                HasSubstr("embed_tokens.base_layer.weight\" is not supported: it differs"));
  }
  // Swapped, or of another size; without factors of its own.
  EXPECT_THAT(with(CopyOf(embedding, own_head, "BF16"), CopyOf(head, own_embedding, "BF16")),
              HasSubstr("it differs from the model's own"));
  TensorToWrite grown = CopyOf(head, own_head, "BF16");
  grown.shape[0] += 3;
  grown.bytes.resize(grown.bytes.size() + 3 * 40 * 2);
  EXPECT_THAT(
      with(grown, CopyOf(embedding, own_embedding, "BF16")),
      HasSubstr("has shape [320, 40], the model and adapter_config.json ask for [317, 40]"));
  Written alone;
  alone.Add("lm_head", 317, 40).AddTensor(CopyOf(embedding, embedding, "BF16"));
  EXPECT_EQ(Load(alone, R"(["lm_head"])"), "OK");
  EXPECT_TRUE(store_->Find(AdapterId(0))->embedding.table.rows == 0);
  // Of one table that is both, the head's copy is the embedding's.
  Use(MoeConfig(/*tied=*/true));
  Written tied;
  tied.Add("lm_head", 317, 40).AddTensor(CopyOf(embedding, own_head, "F16"));
  EXPECT_EQ(Load(tied, R"(["lm_head"])"), "OK");
}

TEST_F(AdapterModulesTest, ExpertsAreTakenWholeOrNotAtAll) {
  const std::string targets = R"(["gate_proj", "up_proj", "down_proj"])";
  // Where the training software kept experts outside linear layers, the same names mean fewer.
  Written shared;
  shared.AddShared(0).AddShared(1);
  EXPECT_EQ(Load(shared, targets, /*experts=*/false), "OK");
  Written all = shared;
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t e = 0; e < kExperts; ++e) all.AddExpert(layer, e);
  }
  EXPECT_EQ(Load(all, targets), "OK");
  const auto loaded = store_->Find(AdapterId(0));
  ASSERT_EQ(loaded->layers[1].experts.size(), kExperts + 1u);
  EXPECT_EQ(loaded->layers[1].experts[kExperts - 1].gate_up.parts.size(), 2u);
  EXPECT_THAT(Load(all, targets, /*experts=*/false), HasSubstr("where lora.experts is true"));
  Written some = shared;
  some.AddExpert(0, 0).AddExpert(0, 1);
  EXPECT_THAT(Load(some, targets), HasSubstr("experts.2.gate_proj.lora_A.weight\" is missing"));
  Written none;
  none.Add("model.layers.0.self_attn.q_proj", 120, 40)
      .Add("model.layers.1.self_attn.q_proj", 120, 40);
  EXPECT_THAT(Load(none, R"(["q_proj", "gate_proj"])"),
              HasSubstr("shared_expert.gate_proj.lora_A.weight\" is missing"));
}

TEST_F(AdapterModulesTest, ARouterIsOneWhereItHasFactors) {
  const std::string targets = R"(["gate", "shared_expert_gate"])";
  Written gates;
  gates.Add("model.layers.0.mlp.shared_expert_gate", 1, 40)
      .Add("model.layers.1.mlp.shared_expert_gate", 1, 40);
  EXPECT_EQ(Load(gates, targets), "OK");
  EXPECT_EQ(store_->Find(AdapterId(0))->layers[1].router.parts.size(), 1u);
  Written half = gates;
  half.Add("model.layers.0.mlp.gate", kExperts, 40);
  EXPECT_THAT(Load(half, targets), HasSubstr("layers.1.mlp.gate.lora_A.weight\" is missing"));
  half.Add("model.layers.1.mlp.gate", kExperts, 40);
  EXPECT_EQ(Load(half, targets), "OK");
  EXPECT_EQ(store_->Find(AdapterId(0))->layers[1].router.parts.size(), 2u);
  Written one;
  one.Add("model.layers.0.mlp.shared_expert_gate", 1, 40);
  EXPECT_THAT(Load(one, targets),
              HasSubstr("layers.1.mlp.shared_expert_gate.lora_A.weight\" is missing"));
}

/// Everything adapted at once, of the largest rank.
TEST_F(AdapterModulesTest, WhatIsKeptIsEnoughForEverything) {
  for (const int32_t rank : {1, 7, 64, 256}) {
    Written all(rank);
    all.Add("lm_head", 317, 40).AddEmbedding();
    for (int32_t layer = 0; layer < 2; ++layer) {
      const std::string name = "model.layers." + std::to_string(layer) + ".";
      all.Add(name + "self_attn.q_proj", 120, 40)
          .Add(name + "self_attn.k_proj", 40, 40)
          .Add(name + "self_attn.v_proj", 40, 40)
          .Add(name + "self_attn.o_proj", 40, 120)
          .Add(name + "mlp.gate", kExperts, 40)
          .Add(name + "mlp.shared_expert_gate", 1, 40)
          .AddShared(layer);
      for (int32_t e = 0; e < kExperts; ++e) all.AddExpert(layer, e);
    }
    const TempDir dir;
    all.WriteTo(dir, "\".*(proj|gate|embed_tokens|lm_head)\"");
    const AdapterBounds bounds = {rank, /*experts=*/true};
    const auto store = Make(bounds);
    ASSERT_EQ(store->Load(AdapterId(0), dir.path()), absl::OkStatus()) << rank;
    const int64_t most = MaxAdapterBytes(model_->config, bounds);
    EXPECT_LE(store->Find(AdapterId(0))->num_bytes, most) << rank;
    EXPECT_GT(store->Find(AdapterId(0))->num_bytes, most / 16) << rank;
    EXPECT_LT(MaxAdapterBytes(model_->config, {rank, false}), most);
    EXPECT_EQ(store->MaxBytes(100), 2 * most + AdapterStepBytes(model_->config, rank, 100));
  }
}

/// More rows than are computed at once, between rows of another adapter and of none.
TEST_F(AdapterModulesTest, ExpertsOfManyRowsAreThoseOfFew) {
  Written all;
  for (int32_t layer = 0; layer < 2; ++layer) {
    all.AddShared(layer);
    for (int32_t e = 0; e < kExperts; ++e) all.AddExpert(layer, e);
  }
  Written shared;
  shared.AddShared(0).AddShared(1);
  const TempDir all_dir, shared_dir;
  const std::string targets = R"(["gate_proj", "up_proj", "down_proj"])";
  all.WriteTo(all_dir, targets);
  shared.WriteTo(shared_dir, targets);
  RunnerOptions options = TinyRunnerOptions();
  options.max_step_tokens = 512;
  options.max_len = 400;
  options.adapters = Make({16, true});
  ASSERT_EQ(options.adapters->Load(AdapterId(0), all_dir.path()), absl::OkStatus());
  ASSERT_EQ(options.adapters->Load(AdapterId(1), shared_dir.path()), absl::OkStatus());
  const auto runner = ModelRunner::Make(model_.get(), options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  RunnerDriver driver(runner->get());
  const std::vector<TokenId> prompt = TinyPrompt(300, 5);
  DrivenSequence few = driver.Begin(prompt, true, AdapterId(0));
  ASSERT_EQ(driver.Run(few, 50, 1), absl::OkStatus());
  DrivenSequence plain = driver.Begin(TinyPrompt(40, 6), true);
  DrivenSequence many = driver.Begin(prompt, true, AdapterId(0));
  DrivenSequence other = driver.Begin(prompt, true, AdapterId(1));
  ASSERT_EQ(driver.Step({{&plain, 40}, {&many, 300}, {&other, 100}}), absl::OkStatus());
  ASSERT_EQ(many.logits.size(), few.logits.size());
  EXPECT_EQ(many.logits, few.logits);
  const std::vector<float> of_many(many.logits.begin(), many.logits.begin() + 100 * 317);
  EXPECT_NE(std::vector<float>(other.logits.begin(), other.logits.begin() + 100 * 317), of_many);
}

/// A runner with adapters takes more by what the store says, to the byte where numbers are of 32 bits.
TEST_F(AdapterModulesTest, ARunnerKeepsWhatTheStoreSays) {
  for (const std::string& config : {TinyConfig(), MoeConfig()}) {
    const TempDir dir;
    dir.Write("config.json", config);
    LoadOptions load;
    load.model_dir = dir.path();
    load.weights = "formula";
    load.pool = &pool_;
    load.planning = true;
    const auto model = LoadModel(load);
    ASSERT_TRUE(model.ok()) << model.status();
    Use(config);
    const auto bytes_with = [&](std::shared_ptr<AdapterStore> store) {
      RunnerOptions options = TinyRunnerOptions();
      options.adapters = std::move(store);
      const int64_t before = PlannedBytes(**model);
      const auto runner = ModelRunner::Make(model->get(), options);
      EXPECT_TRUE(runner.ok()) << runner.status();
      return PlannedBytes(**model) - before;
    };
    const int64_t plain = bytes_with(nullptr);
    EXPECT_EQ(bytes_with(Make({24, false})) - plain,
              AdapterStepBytes(model_->config, 24, TinyRunnerOptions().max_step_tokens));
  }
}

}  // namespace
}  // namespace penstock
