#include "model/adapter_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace penstock {
namespace {

using ::testing::HasSubstr;

AdapterConfig Parsed(const std::string& more) {
  auto config = AdapterConfig::Parse(
      R"({"peft_type": "LORA", "bias": "none", "inference_mode": true, "lora_dropout": 0.1,)" +
          more + "}",
      "c");
  EXPECT_TRUE(config.ok()) << config.status();
  return *std::move(config);
}

TEST(AdapterConfig, NamesAreWholeOrTheEndOfAModule) {
  const auto config = Parsed(R"("r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "a.b"])");
  EXPECT_TRUE(config.Targets("model.layers.0.self_attn.q_proj", 0));
  EXPECT_TRUE(config.Targets("q_proj", 0));
  EXPECT_TRUE(config.Targets("x.a.b", 0));
  EXPECT_FALSE(config.Targets("model.layers.0.self_attn.kq_proj", 0));
  EXPECT_FALSE(config.Targets("xa.b", 0));
  EXPECT_FALSE(config.Targets("q_proj.x", 0));
}

TEST(AdapterConfig, AnExpressionMatchesAModuleWhole) {
  const auto config =
      Parsed(R"("r": 8, "lora_alpha": 16, "target_modules": "model\\.layers\\.[01]\\..*_proj|x")");
  EXPECT_TRUE(config.Targets("model.layers.1.mlp.up_proj", 1));
  EXPECT_TRUE(config.Targets("x", 0));
  EXPECT_FALSE(config.Targets("model.layers.1.mlp.up_proj.x", 1));
  EXPECT_FALSE(config.Targets("y.model.layers.1.mlp.up_proj", 1));
  EXPECT_FALSE(config.Targets("model.layers.2.mlp.up_proj", 2));
}

TEST(AdapterConfig, ExclusionsAndLayersNarrowTheTargets) {
  const auto config = Parsed(
      R"("r": 8, "lora_alpha": 16, "target_modules": "all-linear", "exclude_modules": ["k_proj"],
         "layers_to_transform": [1, 3])");
  EXPECT_TRUE(config.Targets("model.layers.1.self_attn.q_proj", 1));
  EXPECT_FALSE(config.Targets("model.layers.1.self_attn.k_proj", 1));
  EXPECT_FALSE(config.Targets("model.layers.2.self_attn.q_proj", 2));
  const auto one = Parsed(
      R"("r": 8, "lora_alpha": 1, "target_modules": "all-linear", "layers_to_transform": 2)");
  EXPECT_TRUE(one.Targets("x", 2));
  EXPECT_FALSE(one.Targets("x", 1));
}

TEST(AdapterConfig, HeadAndEmbeddingAreTargetsByNameAlone) {
  const auto named = Parsed(R"("r": 8, "lora_alpha": 16, "target_modules": ["lm_head"])");
  EXPECT_TRUE(named.Targets("lm_head", -1));
  EXPECT_TRUE(named.Targets("language_model.lm_head", -1));
  EXPECT_FALSE(named.Targets("model.embed_tokens", -1));
  EXPECT_FALSE(named.ties_weights());
  const auto all = Parsed(R"("r": 8, "lora_alpha": 16, "target_modules": "all-linear")");
  EXPECT_FALSE(all.Targets("lm_head", -1));
  EXPECT_TRUE(all.Targets("x", 0));
  const auto some = Parsed(R"("r": 8, "lora_alpha": 16, "target_modules": ["lm_head"],
                              "layers_to_transform": [0], "ensure_weight_tying": true)");
  EXPECT_FALSE(some.Targets("lm_head", -1));  // it is in none of these layers
  EXPECT_TRUE(some.ties_weights());
}

TEST(AdapterConfig, PatternsChangeRankAndScaling) {
  const auto config = Parsed(
      R"("r": 8, "lora_alpha": 16, "target_modules": "all-linear",
         "rank_pattern": {"q_proj": 4, "layers.1.mlp.up_proj": 2, "^model.x": 3},
         "alpha_pattern": {".*up_proj": 5})");
  EXPECT_EQ(config.RankOf("model.layers.0.self_attn.q_proj"), 4);
  EXPECT_EQ(config.RankOf("model.layers.1.mlp.up_proj"), 2);
  EXPECT_EQ(config.RankOf("model.layers.11.mlp.up_proj"), 8);
  EXPECT_EQ(config.RankOf("model.x"), 3);
  EXPECT_FLOAT_EQ(config.ScalingOf("model.layers.0.self_attn.q_proj"), 4.0f);
  EXPECT_FLOAT_EQ(config.ScalingOf("model.layers.1.mlp.up_proj"), 2.5f);
  EXPECT_FLOAT_EQ(config.ScalingOf("model.layers.0.mlp.down_proj"), 2.0f);
  const auto stabilized =
      Parsed(R"("r": 9, "lora_alpha": 6, "target_modules": "all-linear", "use_rslora": true)");
  EXPECT_FLOAT_EQ(stabilized.ScalingOf("x"), 2.0f);
}

TEST(AdapterConfig, WhatIsNotSupportedIsRefusedByName) {
  const std::string good = R"("peft_type": "LORA", "r": 8, "lora_alpha": 16,
                              "target_modules": ["q_proj"])";
  const auto error = [](const std::string& text) {
    return AdapterConfig::Parse("{" + text + "}", "dir/adapter_config.json").status();
  };
  EXPECT_TRUE(error(good).ok());
  // Set to nothing they are none.
  EXPECT_TRUE(error(good + R"(, "use_dora": false, "modules_to_save": null, "layer_replication": [],
                              "megatron_config": null, "init_lora_weights": true, "loftq_config": {},
                              "target_parameters": null, "use_bdlora": null, "revision": "main")")
                  .ok());
  for (const char* key :
       {"use_dora", "use_qalora", "use_bdlora", "use_something_new", "lora_bias"}) {
    const absl::Status status = error(good + ", \"" + key + "\": true");
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << key;
    EXPECT_THAT(status.ToString(), HasSubstr(key));
    EXPECT_THAT(status.ToString(), HasSubstr("dir/adapter_config.json"));
  }
  for (const char* set :
       {R"("modules_to_save": ["embed_tokens"])", R"("trainable_token_indices": [1])",
        R"("layer_replication": [[0, 4], [2, 5]])", R"("target_parameters": ["experts.gate_up"])",
        R"("alora_invocation_tokens": [3])", R"("megatron_config": {"a": 1})", R"("bias": "all")",
        R"("bias": "lora_only")", R"("init_lora_weights": "pissa")",
        R"("init_lora_weights": "olora")", R"("arrow_config": {"a": 1})"}) {
    const absl::Status status = error(good + ", " + set);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << set << status;
    const std::string key(set + 1, std::string(set + 1).find('"'));
    EXPECT_THAT(status.ToString(), HasSubstr(key)) << set;
  }
  for (const char* type : {"LOHA", "IA3", "PREFIX_TUNING", ""}) {
    const absl::Status status = error(std::string(R"("peft_type": ")") + type +
                                      R"(", "r": 8, "lora_alpha": 16, "target_modules": [])");
    EXPECT_THAT(status.ToString(), HasSubstr("peft_type")) << type;
  }
}

TEST(AdapterConfig, WrongValuesAreNamed) {
  const auto message = [](const std::string& text) {
    return AdapterConfig::Parse(text, "c").status().ToString();
  };
  const auto with = [&](const std::string& more) {
    return message(R"({"peft_type": "LORA", "target_modules": ["q"])" + more + "}");
  };
  EXPECT_THAT(message("[]"), HasSubstr("object"));
  EXPECT_THAT(message("{"), HasSubstr("not JSON"));
  EXPECT_THAT(with(""), HasSubstr("r: is missing"));
  EXPECT_THAT(with(R"(, "r": 0, "lora_alpha": 1)"), HasSubstr("r: expected a whole number"));
  EXPECT_THAT(with(R"(, "r": 257, "lora_alpha": 1)"), HasSubstr("from 1 to 256"));
  EXPECT_THAT(with(R"(, "r": 8)"), HasSubstr("lora_alpha: is missing"));
  EXPECT_THAT(with(R"(, "r": 8, "lora_alpha": "x")"), HasSubstr("lora_alpha"));
  EXPECT_THAT(with(R"(, "r": 8, "lora_alpha": 1, "rank_pattern": {"q": 300})"), HasSubstr("\"q\""));
  EXPECT_THAT(with(R"(, "r": 8, "lora_alpha": 1, "alpha_pattern": {"(": 3})"),
              HasSubstr("alpha_pattern"));
  EXPECT_THAT(with(R"(, "r": 8, "lora_alpha": 1, "layers_to_transform": [-1])"),
              HasSubstr("layers_to_transform"));
  EXPECT_THAT(message(R"({"peft_type": "LORA", "r": 8, "lora_alpha": 1})"),
              HasSubstr("target_modules: is missing"));
  EXPECT_THAT(message(R"({"peft_type": "LORA", "r": 8, "lora_alpha": 1, "target_modules": "("})"),
              HasSubstr("target_modules"));
  EXPECT_THAT(message(R"({"peft_type": "LORA", "r": 8, "lora_alpha": 1, "target_modules": [1]})"),
              HasSubstr("target_modules"));
}

}  // namespace
}  // namespace penstock
