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

}  // namespace
}  // namespace penstock
