#include "model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

ModelConfig Parse(const std::string& json) {
  auto config = ParseModelConfig(json, "config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig();
}

std::string ErrorOf(const std::string& json) {
  return ParseModelConfig(json, "config.json").status().ToString();
}

TEST(ModelConfig, ReadsTheHubForm) {
  const ModelConfig c = Parse(
      TinyConfig("LlamaForCausalLM",
                 R"("torch_dtype": "bfloat16", "attention_bias": true, "tie_word_embeddings": true,
      "rope_scaling": {"type": "linear", "factor": 4.0},)"));
  EXPECT_EQ(c.layers[0].heads.head_dim, 20);
  EXPECT_EQ(c.layers[0].heads.num_kv_heads, 2);
  EXPECT_EQ(c.layers.size(), 2u);
  EXPECT_EQ(c.file_dtype, DType::kBFloat16);
  EXPECT_TRUE(c.tied_embeddings && c.qkv_bias && c.o_bias);
  EXPECT_EQ(c.ropes[0].type, RopeType::kLinear);
  EXPECT_EQ(c.ropes[0].factor, 4.0);
  EXPECT_EQ(c.ropes[0].theta, 10000.0);
}

TEST(ModelConfig, ReadsTheFormOfTransformers5) {
  const ModelConfig c = Parse(TinyConfig(
      "LlamaForCausalLM",
      R"("dtype": "float16", "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0,
      "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128},)"));
  EXPECT_EQ(c.file_dtype, DType::kFloat16);
  EXPECT_EQ(c.ropes[0].type, RopeType::kLlama3);
  EXPECT_EQ(c.ropes[0].theta, 500000.0);
  EXPECT_EQ(c.ropes[0].original_max_positions, 128);
}

TEST(ModelConfig, ReadsANestedTextConfig) {
  const ModelConfig c =
      Parse(R"({"architectures": ["MistralForCausalLM"], "text_config": )" + TinyConfig() + "}");
  EXPECT_EQ(c.architecture, "MistralForCausalLM");
  EXPECT_EQ(c.hidden_size, 40);
}

TEST(ModelConfig, FallsBackToTheModelType) {
  std::string json = TinyConfig("LlamaForCausalLM", R"("model_type": "qwen2",)");
  json.replace(json.find("[\"LlamaForCausalLM\"]"), 20, "null");
  EXPECT_EQ(Parse(json).architecture, "Qwen2ForCausalLM");
}

TEST(ModelConfig, KnowsEachFamilysBiasesAndNorms) {
  EXPECT_TRUE(Parse(TinyConfig("Qwen2ForCausalLM")).qkv_bias);
  EXPECT_FALSE(Parse(TinyConfig("Qwen2ForCausalLM")).o_bias);
  EXPECT_EQ(Parse(TinyConfig("Qwen3ForCausalLM")).qk_norm, QkNorm::kPerHead);
  EXPECT_FALSE(Parse(TinyConfig("MistralForCausalLM", "\"attention_bias\": true,")).qkv_bias);
  EXPECT_TRUE(Parse(TinyConfig("LlamaForCausalLM", "\"mlp_bias\": true,")).mlp_bias);
}

std::vector<int32_t> WindowsOf(const ModelConfig& c) {
  std::vector<int32_t> windows;
  for (const LayerConfig& layer : c.layers) windows.push_back(layer.window);
  return windows;
}

TEST(ModelConfig, GivesEachLayerItsWindow) {
  using W = std::vector<int32_t>;
  EXPECT_EQ(WindowsOf(Parse(TinyConfig("MistralForCausalLM", "\"sliding_window\": 24,"))),
            (W{24, 24}));
  EXPECT_EQ(WindowsOf(Parse(TinyConfig("MistralForCausalLM", "\"sliding_window\": null,"))),
            (W{0, 0}));
  EXPECT_EQ(WindowsOf(Parse(TinyConfig("LlamaForCausalLM", "\"sliding_window\": 24,"))), (W{0, 0}));
  const std::string qwen =
      R"("sliding_window": 24, "max_window_layers": 1, "use_sliding_window": )";
  EXPECT_EQ(WindowsOf(Parse(TinyConfig("Qwen2ForCausalLM", qwen + "false,"))), (W{0, 0}));
  EXPECT_EQ(WindowsOf(Parse(TinyConfig("Qwen2ForCausalLM", qwen + "true,"))), (W{0, 24}));
  const std::string types = R"("layer_types": ["sliding_attention", "full_attention"], )";
  EXPECT_EQ(WindowsOf(Parse(TinyConfig("Qwen3ForCausalLM", types + qwen + "true,"))), (W{24, 0}));
}

TEST(ModelConfig, NamesWhatItDoesNotKnow) {
  EXPECT_THAT(ErrorOf(TinyConfig("MambaForCausalLM")), HasSubstr("\"MambaForCausalLM\""));
  EXPECT_THAT(ErrorOf(TinyConfig("MambaForCausalLM")),
              HasSubstr("LlamaForCausalLM, MistralForCausalLM"));
  const std::string rope =
      ErrorOf(TinyConfig("LlamaForCausalLM", R"("rope_scaling": {"rope_type": "spiral"},)"));
  EXPECT_THAT(rope, HasSubstr("\"spiral\""));
  EXPECT_THAT(rope, HasSubstr("default, linear, dynamic, llama3, yarn, longrope"));
  EXPECT_THAT(ErrorOf(TinyConfig("LlamaForCausalLM", R"("hidden_act": "sine",)")),
              HasSubstr("\"sine\""));
}

TEST(ModelConfig, NamesTheKeyThatIsWrong) {
  std::string json = TinyConfig();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string copy = json;
    copy.replace(copy.find(from), from.size(), to);
    return ErrorOf(copy);
  };
  EXPECT_THAT(with("\"hidden_size\": 40,", ""), HasSubstr("hidden_size: is missing"));
  EXPECT_THAT(with("40", "-40"), HasSubstr("hidden_size"));
  EXPECT_THAT(with("40", "\"40\""), HasSubstr("hidden_size"));
  EXPECT_THAT(with("40", "4e99"), HasSubstr("hidden_size"));
  EXPECT_THAT(with("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4"),
              HasSubstr("num_key_value_heads"));
  EXPECT_THAT(with("\"head_dim\": 20", "\"head_dim\": 21"), HasSubstr("head_dim"));
  EXPECT_THAT(with("1e-5", "\"x\""), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(with("1e-5", "1e-5, \"tie_word_embeddings\": 1"), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(with("1e-5", "1e-5, \"hidden_size\": 40"), HasSubstr("twice"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(ErrorOf("{"), HasSubstr("not JSON"));
}

TEST(ModelConfig, ReadsFalconsKeysUnderTheirOwnNames) {
  const auto falcon = [](std::string extra) {
    std::string json = TinyConfig("FalconForCausalLM", extra);
    json.replace(json.find("\"num_key_value_heads\": 2"), 24, "\"unused\": 2");
    return json;
  };
  const ModelConfig one = Parse(falcon(R"("multi_query": true, "bias": false,)"));
  EXPECT_EQ(one.layers[0].heads.num_kv_heads, 1);
  EXPECT_TRUE(one.parallel_block);
  EXPECT_EQ(one.norm_names.attention_input, "input_layernorm");
  EXPECT_EQ(one.norm_names.mlp_input, "");
  EXPECT_FALSE(one.qkv_bias);
  const ModelConfig grouped =
      Parse(falcon(R"("new_decoder_architecture": true, "num_kv_heads": 2, "bias": true,)"));
  EXPECT_EQ(grouped.layers[0].heads.num_kv_heads, 2);
  EXPECT_EQ(grouped.norm_names.attention_input, "ln_attn");
  EXPECT_EQ(grouped.norm_names.mlp_input, "ln_mlp");
  EXPECT_TRUE(grouped.qkv_bias && grouped.o_bias && grouped.mlp_bias);
  const ModelConfig in_turn = Parse(falcon(R"("parallel_attn": false,)"));
  EXPECT_FALSE(in_turn.parallel_block);
  EXPECT_EQ(in_turn.norm_names.mlp_input, "post_attention_layernorm");
  EXPECT_THAT(ErrorOf(falcon(R"("multi_query": "yes",)")), HasSubstr("multi_query: expected"));
  EXPECT_THAT(ErrorOf(falcon(R"("alibi": true,)")), HasSubstr("alibi: is not supported"));
  EXPECT_THAT(ErrorOf(falcon(R"("num_kv_heads": "x", "new_decoder_architecture": true,)")),
              HasSubstr(": num_kv_heads: expected"));
}

TEST(ModelConfig, NamesAKeyAsTheFileHasIt) {
  EXPECT_THAT(ErrorOf(R"({"architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_head": "x"})"),
              HasSubstr(": n_head: expected"));
  EXPECT_THAT(ErrorOf(R"({"architectures": ["GPT2LMHeadModel"], "n_embd": 64})"),
              HasSubstr(": num_attention_heads: is missing"));
}

TEST(ModelConfig, HasStableLmsBlocksInTurnUnlessTheFileSaysParallel) {
  const ModelConfig in_turn = Parse(TinyConfig("StableLmForCausalLM"));
  EXPECT_FALSE(in_turn.parallel_block);
  EXPECT_EQ(in_turn.norm_names.mlp_input, "post_attention_layernorm");
  const ModelConfig parallel =
      Parse(TinyConfig("StableLmForCausalLM", "\"use_parallel_residual\": true,"));
  EXPECT_TRUE(parallel.parallel_block);
  EXPECT_EQ(parallel.norm_names.mlp_input, "");
}

TEST(ModelConfig, RefusesWhatAFamilyHasAndThisServerHasNot) {
  EXPECT_THAT(ErrorOf(TinyConfig("CohereForCausalLM", "\"use_qk_norm\": true,")),
              HasSubstr("use_qk_norm"));
  EXPECT_THAT(ErrorOf(TinyConfig("StableLmForCausalLM", "\"qk_layernorm\": true,")),
              HasSubstr("qk_layernorm"));
  const std::string latent =
      R"("n_routed_experts": 8, "moe_intermediate_size": 8, "num_experts_per_tok": 2, "kv_lora_rank": 8,
         "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, )";
  EXPECT_THAT(
      ErrorOf(TinyConfig("DeepseekV2ForCausalLM", latent + "\"topk_method\": \"noaux_tc\",")),
      HasSubstr("topk_method: expected greedy or group_limited_greedy"));
  EXPECT_THAT(ErrorOf(TinyConfig("DeepseekV2ForCausalLM", latent + "\"norm_topk_prob\": true,")),
              HasSubstr("norm_topk_prob"));
  const ModelConfig v2 = Parse(TinyConfig(
      "DeepseekV2ForCausalLM",
      latent + R"("topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,)"));
  EXPECT_EQ(v2.experts.rule.num_groups, 4);
  EXPECT_EQ(v2.experts.rule.group_best, 1);
  EXPECT_EQ(v2.experts.score_bias, "");
}

/// Files of DeepSeek have no head_dim, and sizes that make another one.
TEST(ModelConfig, TurnsOfLatentAttentionThePartThatIsForIt) {
  for (const char* more : {"", R"("rope_scaling": {"type": "yarn", "factor": 4.0,
                                  "original_max_position_embeddings": 128},)"}) {
    const ModelConfig c = Parse(TinyConfig(
        "DeepseekV3ForCausalLM",
        std::string(R"("n_routed_experts": 8, "moe_intermediate_size": 8, "num_experts_per_tok": 2,
            "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 12, "v_head_dim": 8,)") +
            more));
    EXPECT_EQ(c.ropes[0].rotary_dim, 12);
    EXPECT_EQ(c.layers[0].heads.head_dim, 20);
  }
}

}  // namespace
}  // namespace penstock
