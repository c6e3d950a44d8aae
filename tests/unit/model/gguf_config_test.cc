#include "model/gguf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/gguf_model.h"
#include "fakes/safetensors_writer.h"
#include "model/gguf_architecture.h"
#include "model/model_config.h"
#include "model/rope.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

TEST(GgufConfig, AnOlmo2WithAWindowIsAnOlmo3) {
  GgufWriter writer = GgufModel("olmo2");
  const auto two = GgufConfigOf(writer);
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->architecture, "Olmo2ForCausalLM");
  EXPECT_EQ(two->layers[0].window, 0);
  writer.AddInt("olmo2.attention.sliding_window", 24);
  const auto three = GgufConfigOf(writer);
  ASSERT_TRUE(three.ok()) << three.status();
  EXPECT_EQ(three->architecture, "Olmo3ForCausalLM");
  EXPECT_EQ(three->layers[2].window, 24);
  EXPECT_EQ(three->layers[3].window, 0);
}

TEST(GgufConfig, AnExaone4TurnsNothingWhereItHasNoWindow) {
  GgufWriter writer = GgufModel("exaone4");
  writer.AddInt("exaone4.attention.sliding_window", 24);
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->architecture, "Exaone4ForCausalLM");
  EXPECT_EQ(c->layers[0].window, 24);
  EXPECT_GE(c->layers[0].rope, 0);
  EXPECT_EQ(c->layers[3].window, 0);
  EXPECT_EQ(c->layers[3].rope, -1);
}

TEST(GgufConfig, ReadsALlama) {
  GgufWriter writer = GgufModel("llama");
  writer.AddFloat("llama.rope.freq_base", 5000.0f);
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->architecture, "LlamaForCausalLM");
  EXPECT_EQ(c->hidden_size, 32);
  EXPECT_EQ(c->intermediate_size, 48);
  EXPECT_EQ(c->vocab_size, 5);
  EXPECT_EQ(c->max_positions, 512);
  EXPECT_EQ(c->layers.size(), 4u);
  EXPECT_EQ(c->layers[0].heads.num_heads, 4);
  EXPECT_EQ(c->layers[0].heads.num_kv_heads, 2);
  EXPECT_EQ(c->layers[0].heads.head_dim, 8);
  EXPECT_FLOAT_EQ(c->norm_eps, 1e-5f);
  EXPECT_EQ(c->ropes[0].theta, 5000.0);
  EXPECT_TRUE(c->tied_embeddings);
  EXPECT_FALSE(c->qkv_bias);
}

TEST(GgufConfig, LooksAtTheTensorsForHeadsAndBiases) {
  GgufWriter writer = GgufModel("llama");
  writer.AddTensor("output.weight", GgmlType::kF32, {5, 32}, std::string(640, 0));
  writer.AddTensor("blk.0.attn_q.bias", GgmlType::kF32, {32}, std::string(128, 0));
  writer.AddTensor("blk.0.ffn_down.bias", GgmlType::kF32, {32}, std::string(128, 0));
  writer.AddTensor("blk.0.attn_output.weight", GgmlType::kBF16, {32, 32}, std::string(2048, 0));
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_FALSE(c->tied_embeddings);
  EXPECT_TRUE(c->qkv_bias);
  EXPECT_TRUE(c->mlp_bias);
  EXPECT_EQ(c->file_dtype, DType::kBFloat16);
}

TEST(GgufConfig, TellsMixtralAndMistralByTheirKeys) {
  GgufWriter mixtral = GgufModel("llama");
  mixtral.AddInt("llama.expert_count", 8);
  mixtral.AddInt("llama.expert_used_count", 2);
  const auto m = GgufConfigOf(mixtral);
  ASSERT_TRUE(m.ok()) << m.status();
  EXPECT_EQ(m->architecture, "MixtralForCausalLM");
  EXPECT_EQ(m->experts.num_experts, 8);
  EXPECT_EQ(m->experts.top_k, 2);
  GgufWriter mistral = GgufModel("llama");
  mistral.AddInt("llama.attention.sliding_window", 24);
  const auto w = GgufConfigOf(mistral);
  ASSERT_TRUE(w.ok()) << w.status();
  EXPECT_EQ(w->architecture, "MistralForCausalLM");
  EXPECT_EQ(w->layers[3].window, 24);
}

TEST(GgufConfig, ReadsQwenMixtures) {
  GgufWriter writer = GgufModel("qwen2moe");
  writer.AddInt("qwen2moe.expert_count", 6);
  writer.AddInt("qwen2moe.expert_used_count", 2);
  writer.AddInt("qwen2moe.expert_feed_forward_length", 12);
  writer.AddInt("qwen2moe.expert_shared_feed_forward_length", 20);
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->experts.intermediate_size, 12);
  EXPECT_EQ(c->experts.shared_intermediate_size, 20);
  EXPECT_FALSE(c->experts.rule.normalize);
  EXPECT_THAT(GgufConfigError(GgufModel("qwen3moe")),
              HasSubstr("qwen3moe.expert_count: is missing, expected an integer"));
}

TEST(GgufConfig, ReadsGemmasWindowsScalesAndCaps) {
  GgufWriter second = GgufModel("gemma2");
  second.AddInt("gemma2.attention.key_length", 16);
  second.AddInt("gemma2.attention.value_length", 16);
  second.AddInt("gemma2.attention.sliding_window", 24);
  second.AddFloat("gemma2.final_logit_softcapping", 20.0f);
  const auto a = GgufConfigOf(second);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->layers[0].window, 24);
  EXPECT_EQ(a->layers[1].window, 0);
  EXPECT_EQ(a->attention_soft_cap, 50.0f);
  EXPECT_EQ(a->final_soft_cap, 20.0f);
  EXPECT_FLOAT_EQ(a->attention_scale, 0.25f);
  EXPECT_EQ(a->activation, Activation::kGeluTanh);
  GgufWriter third = GgufModel("gemma3");
  third.AddInt("gemma3.attention.sliding_window", 24);
  third.AddFloat("gemma3.rope.freq_base", 1e6f);
  third.AddArray("gemma3.attention.sliding_window_pattern", GgufType::kBool, 4,
                 std::string("\1\0\1\1", 4));
  const auto b = GgufConfigOf(third);
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(b->layers[0].window, 24);
  EXPECT_EQ(b->layers[1].window, 0);
  EXPECT_EQ(b->layers[3].window, 24);
  EXPECT_EQ(b->ropes[0].theta, 1e6);
  EXPECT_EQ(b->ropes[1].theta, 1e4);
}

TEST(GgufConfig, ReadsYarnAndLinearScaling) {
  GgufWriter yarn = GgufModel("qwen2");
  yarn.AddString("qwen2.rope.scaling.type", "yarn");
  yarn.AddFloat("qwen2.rope.scaling.factor", 4.0f);
  yarn.AddInt("qwen2.rope.scaling.original_context_length", 128);
  const auto y = GgufConfigOf(yarn);
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_EQ(y->ropes[0].type, RopeType::kYarn);
  EXPECT_EQ(y->ropes[0].factor, 4.0);
  EXPECT_EQ(y->ropes[0].original_max_positions, 128);
  GgufWriter linear = GgufModel("qwen2");
  linear.AddString("qwen2.rope.scaling.type", "linear");
  linear.AddFloat("qwen2.rope.scaling.factor", 2.0f);
  const auto l = GgufConfigOf(linear);
  ASSERT_TRUE(l.ok()) << l.status();
  EXPECT_EQ(l->ropes[0].type, RopeType::kLinear);
  EXPECT_EQ(l->ropes[0].factor, 2.0);
}

TEST(GgufConfig, CarriesFactorsOfSinglePairsOfDimensions) {
  GgufWriter writer = GgufModel("llama");
  writer.AddTensor("rope_freqs.weight", GgmlType::kF32, {4},
                   BytesOf(std::vector<float>{1, 1, 2, 8}));
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  const std::vector<float> turned = RopeFrequencies(c->ropes[0], 512);
  RopeConfig plain = c->ropes[0];
  plain.type = RopeType::kDefault;
  const std::vector<float> base = RopeFrequencies(plain, 512);
  EXPECT_FLOAT_EQ(turned[1], base[1]);
  EXPECT_FLOAT_EQ(turned[2], base[2] / 2);
  EXPECT_FLOAT_EQ(turned[3], base[3] / 8);
  EXPECT_EQ(RopeMagnitude(c->ropes[0]), 1.0f);
}

TEST(GgufConfig, ReadsLongAndShortFactors) {
  GgufWriter writer = GgufModel("phi3");
  writer.AddInt("phi3.rope.scaling.original_context_length", 128);
  writer.AddFloat("phi3.rope.scaling.attn_factor", 1.25f);
  writer.AddInt("phi3.rope.dimension_count", 6);
  writer.AddTensor("rope_factors_long.weight", GgmlType::kF32, {3},
                   BytesOf(std::vector<float>{4, 5, 6}));
  writer.AddTensor("rope_factors_short.weight", GgmlType::kF32, {3},
                   BytesOf(std::vector<float>{1, 2, 3}));
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->ropes[0].type, RopeType::kLongRope);
  EXPECT_EQ(c->ropes[0].rotary_dim, 6);
  EXPECT_EQ(c->ropes[0].long_factors, (std::vector<double>{4, 5, 6}));
  EXPECT_EQ(c->ropes[0].short_factors, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(RopeMagnitude(c->ropes[0]), 1.25f);
}

TEST(GgufConfig, RefusesByName) {
  EXPECT_THAT(GgufConfigError(GgufModel("starcoder")),
              HasSubstr("general.architecture \"starcoder\" is not known; known are llama, qwen2"));
  EXPECT_THAT(GgufConfigError(GgufWriter()), HasSubstr("general.architecture is missing; known"));
  const auto with = [](const char* key, auto add) {
    GgufWriter writer = GgufModel("llama");
    add(writer, std::string("llama.") + key);
    return GgufConfigError(writer);
  };
  const auto one = [](GgufWriter& w, const std::string& key) { w.AddInt(key, 1); };
  const auto half = [](GgufWriter& w, const std::string& key) { w.AddFloat(key, 0.5f); };
  const auto text = [](GgufWriter& w, const std::string& key) { w.AddString(key, "new"); };
  EXPECT_THAT(with("attention.max_alibi_bias", half), HasSubstr("is not supported for llama"));
  EXPECT_THAT(with("logit_scale", half), HasSubstr("llama.logit_scale: is not supported"));
  EXPECT_THAT(with("rope.scaling.type", text), HasSubstr("\"new\" is not known; known are none"));
  EXPECT_THAT(with("attention.value_length", one), HasSubstr("expected 8, as keys have"));
  EXPECT_THAT(with("rope.dimension_count", text), HasSubstr("expected an integer"));
  EXPECT_THAT(with("rope.freq_base", one), HasSubstr("llama.rope.freq_base: expected a float"));
  GgufWriter bare;
  bare.AddString("general.architecture", "llama");
  EXPECT_THAT(GgufConfigError(bare), HasSubstr("embedding_length: is missing"));
}

TEST(GgufConfig, RefusesHeadsThatDifferByLayer) {
  GgufWriter writer = GgufModel("qwen3");
  writer.AddArray("qwen3.attention.key_length", GgufType::kInt32, 2,
                  GgufNumber<int32_t>(8) + GgufNumber<int32_t>(16));
  EXPECT_THAT(GgufConfigError(writer),
              HasSubstr("attention.key_length: expected the same number for every layer"));
}

/// What a mixture of DeepSeek's kind says.
GgufWriter DeepSeekMixture(const std::string& arch) {
  GgufWriter writer = GgufModel(arch);
  writer.AddInt(arch + ".expert_count", 8);
  writer.AddInt(arch + ".expert_used_count", 2);
  writer.AddInt(arch + ".expert_shared_count", 1);
  writer.AddInt(arch + ".expert_feed_forward_length", 12);
  writer.AddInt(arch + ".leading_dense_block_count", 1);
  writer.AddFloat(arch + ".expert_weights_scale", 2.5f);
  return writer;
}

TEST(GgufConfig, ReadsLatentAttentionOfNewAndOldFiles) {
  for (const bool old : {false, true}) {
    GgufWriter writer = DeepSeekMixture("deepseek2");
    writer.AddInt("deepseek2.expert_gating_func", 2);
    writer.AddInt("deepseek2.expert_group_count", 2);
    writer.AddInt("deepseek2.expert_group_used_count", 1);
    writer.AddInt("deepseek2.rope.dimension_count", 4);
    writer.AddInt("deepseek2.attention.kv_lora_rank", 16);
    writer.AddInt("deepseek2.attention.key_length", old ? 10 : 20);
    writer.AddInt("deepseek2.attention.value_length", old ? 8 : 16);
    if (!old) writer.AddInt("deepseek2.attention.key_length_mla", 10);
    if (!old) writer.AddInt("deepseek2.attention.value_length_mla", 8);
    writer.AddString("deepseek2.rope.scaling.type", "yarn");
    writer.AddFloat("deepseek2.rope.scaling.factor", 40.0f);
    writer.AddFloat("deepseek2.rope.scaling.yarn_log_multiplier", 0.1f);
    const auto c = GgufConfigOf(writer);
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_EQ(c->architecture, "DeepseekV3ForCausalLM");
    EXPECT_EQ(c->latent.kv_rank, 16);
    EXPECT_EQ(c->latent.q_rank, 0);
    EXPECT_EQ(c->latent.nope_dim, 6);
    EXPECT_EQ(c->latent.rope_dim, 4);
    EXPECT_EQ(c->latent.value_dim, 8);
    EXPECT_EQ(c->experts.rule.num_groups, 2);
    EXPECT_FLOAT_EQ(c->experts.rule.scale, 2.5f);
    EXPECT_FALSE(c->experts.rule.normalize);
    EXPECT_FALSE(c->layers[0].experts);
    EXPECT_TRUE(c->layers[1].experts);
    EXPECT_NEAR(c->ropes[0].mscale_all_dim, 1.0, 1e-6);
    EXPECT_FLOAT_EQ(RopeMagnitude(c->ropes[0]), 1.0f);
  }
}

TEST(GgufConfig, RefusesRoutersThatTheFamilyDoesNotHave) {
  GgufWriter latent = DeepSeekMixture("deepseek2");
  latent.AddInt("deepseek2.rope.dimension_count", 4);
  latent.AddInt("deepseek2.attention.kv_lora_rank", 16);
  latent.AddInt("deepseek2.attention.key_length", 10);
  latent.AddInt("deepseek2.attention.value_length", 8);
  EXPECT_THAT(
      GgufConfigError(latent),
      HasSubstr("deepseek2.expert_gating_func: 1 is not supported for deepseek2, expected 2 "
                "(sigmoid)"));
  GgufWriter qwen = GgufModel("qwen3moe");
  qwen.AddInt("qwen3moe.expert_count", 6);
  qwen.AddInt("qwen3moe.expert_used_count", 2);
  qwen.AddInt("qwen3moe.expert_feed_forward_length", 12);
  qwen.AddInt("qwen3moe.expert_gating_func", 2);
  EXPECT_THAT(GgufConfigError(qwen), HasSubstr("expert_gating_func: 2 is not supported"));
  GgufWriter mixtral = GgufModel("llama");
  mixtral.AddInt("llama.expert_count", 8);
  mixtral.AddInt("llama.expert_used_count", 2);
  mixtral.AddKey("llama.expert_weights_norm", GgufType::kBool, std::string(1, 0));
  EXPECT_THAT(GgufConfigError(mixtral), HasSubstr("expert_weights_norm: expected true for llama"));
}

TEST(GgufConfig, LeavesLayersOutThatPredictAhead) {
  GgufWriter writer = DeepSeekMixture("glm4moe");
  writer.AddInt("glm4moe.nextn_predict_layers", 1);
  writer.AddInt("glm4moe.rope.dimension_count", 4);
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->architecture, "Glm4MoeForCausalLM");
  EXPECT_EQ(c->layers.size(), 3u);
  EXPECT_EQ(c->qk_norm, QkNorm::kNone);
  EXPECT_EQ(c->ropes[0].rotary_dim, 4);
  GgufWriter none = GgufModel("llama");
  none.AddInt("llama.nextn_predict_layers", 4);
  EXPECT_THAT(GgufConfigError(none),
              HasSubstr("llama.block_count: expected more than the 4 that predict ahead"));
}

TEST(GgufConfig, ReadsMistral3sTemperature) {
  GgufWriter writer = GgufModel("mistral3");
  const auto plain = GgufConfigOf(writer);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->query_scale_beta, 0.0f);
  writer.AddFloat("mistral3.attention.temperature_scale", 0.1f);
  EXPECT_THAT(GgufConfigError(writer), HasSubstr("temperature_scale: is not supported"));
  writer.AddString("mistral3.rope.scaling.type", "yarn");
  writer.AddFloat("mistral3.rope.scaling.factor", 16.0f);
  writer.AddInt("mistral3.rope.scaling.original_context_length", 128);
  writer.AddFloat("mistral3.rope.scaling.yarn_log_multiplier", 1.0f);
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_FLOAT_EQ(c->query_scale_beta, 0.1f);
  EXPECT_EQ(c->ropes[0].original_max_positions, 128);
  EXPECT_FLOAT_EQ(RopeMagnitude(c->ropes[0]), 1.0f);
}

/// The keys of an architecture with LayerNorm.
GgufWriter LayerNormModel(const std::string& arch) {
  GgufWriter writer;
  writer.AddString("general.architecture", arch);
  writer.AddInt(arch + ".context_length", 512);
  writer.AddInt(arch + ".embedding_length", 32);
  writer.AddInt(arch + ".block_count", 4);
  writer.AddInt(arch + ".feed_forward_length", 48);
  writer.AddInt(arch + ".attention.head_count", 4);
  writer.AddTensor("token_embd.weight", GgmlType::kF32, {5, 32}, std::string(640, 0));
  return writer;
}

TEST(GgufConfig, ReadsNetworksWithLayerNorm) {
  GgufWriter gpt2 = LayerNormModel("gpt2");
  EXPECT_THAT(GgufConfigError(gpt2),
              HasSubstr("gpt2.attention.layer_norm_epsilon: is missing, expected a float"));
  gpt2.AddFloat("gpt2.attention.layer_norm_epsilon", 1e-4f);
  const auto g = GgufConfigOf(gpt2);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->norm, NormType::kLayer);
  EXPECT_FLOAT_EQ(g->norm_eps, 1e-4f);
  EXPECT_TRUE(g->position_table);
  GgufWriter cohere = LayerNormModel("cohere2");
  cohere.AddFloat("cohere2.attention.layer_norm_epsilon", 1e-4f);
  cohere.AddInt("cohere2.attention.sliding_window", 24);
  EXPECT_THAT(GgufConfigError(cohere), HasSubstr("cohere2.logit_scale: is missing"));
  cohere.AddFloat("cohere2.logit_scale", 0.25f);
  const auto c = GgufConfigOf(cohere);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->norm, NormType::kLayerNoBias);
  EXPECT_FLOAT_EQ(c->logit_scale, 0.25f);
  EXPECT_EQ(c->layers[0].window, 24);
  EXPECT_EQ(c->layers[3].rope, -1);
}

TEST(GgufConfig, ReadsLayersWithARecurrentState) {
  GgufWriter writer = GgufModel("qwen35");
  writer.AddInt("qwen35.ssm.conv_kernel", 4);
  writer.AddInt("qwen35.ssm.state_size", 6);
  writer.AddInt("qwen35.ssm.group_count", 2);
  writer.AddInt("qwen35.ssm.time_step_rank", 4);
  writer.AddInt("qwen35.ssm.inner_size", 40);
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_TRUE(c->layers[0].recurrent);
  EXPECT_FALSE(c->layers[3].recurrent);
  EXPECT_EQ(c->delta.num_key_heads, 2);
  EXPECT_EQ(c->delta.num_value_heads, 4);
  EXPECT_EQ(c->delta.key_dim, 6);
  EXPECT_EQ(c->delta.value_dim, 10);
  EXPECT_TRUE(c->attention_gate);
  writer.AddArray("qwen35.attention.recurrent_layers", GgufType::kBool, 4,
                  std::string("\0\1\1\1", 4));
  const auto listed = GgufConfigOf(writer);
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_FALSE(listed->layers[0].recurrent);
  EXPECT_TRUE(listed->layers[3].recurrent);
}

GgufWriter Gemma4Model() {
  GgufWriter writer = GgufModel("gemma4");
  writer.AddInt("gemma4.attention.key_length", 16);
  writer.AddInt("gemma4.attention.value_length", 16);
  writer.AddInt("gemma4.attention.key_length_swa", 8);
  writer.AddInt("gemma4.attention.value_length_swa", 8);
  writer.AddInt("gemma4.attention.sliding_window", 24);
  writer.AddArray("gemma4.attention.sliding_window_pattern", GgufType::kBool, 4,
                  std::string("\1\1\1\0", 4));
  writer.AddInt("gemma4.embedding_length_per_layer_input", 0);
  writer.AddFloat("gemma4.rope.freq_base", 1e6f);
  writer.AddFloat("gemma4.rope.freq_base_swa", 1e4f);
  return writer;
}

TEST(GgufConfig, ReadsHeadsThatDifferByKindOfLayer) {
  GgufWriter writer = Gemma4Model();
  writer.AddTensor("rope_freqs.weight", GgmlType::kF32, {8},
                   BytesOf(std::vector<float>{1, 1, 1e30f, 1e30f, 1e30f, 1e30f, 1e30f, 1e30f}));
  const auto c = GgufConfigOf(writer);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->layers[0].heads.head_dim, 8);
  EXPECT_EQ(c->layers[0].window, 24);
  EXPECT_EQ(c->layers[3].heads.head_dim, 16);
  EXPECT_EQ(c->layers[3].window, 0);
  EXPECT_TRUE(c->layers[3].values_are_keys);  // the file has no blk.3.attn_v
  EXPECT_EQ(c->ropes[0].type, RopeType::kProportional);
  EXPECT_EQ(c->ropes[0].rotated_pairs, 2);
  EXPECT_EQ(c->ropes[1].theta, 1e4);
  EXPECT_EQ(c->attention_scale, 1.0f);
}

TEST(GgufConfig, RefusesWhatGemma4HasAndTheServerHasNot) {
  GgufWriter turns = Gemma4Model();
  turns.AddTensor("rope_freqs.weight", GgmlType::kF32, {8},
                  BytesOf(std::vector<float>{1, 1, 2, 4, 8, 8, 8, 8}));
  EXPECT_THAT(GgufConfigError(turns),
              HasSubstr("\"rope_freqs.weight\": expected 8 factors, 1 for"));
  for (const char* key : {"attention.shared_kv_layers", "expert_count"}) {
    GgufWriter writer = Gemma4Model();
    writer.AddTensor("rope_freqs.weight", GgmlType::kF32, {8},
                     BytesOf(std::vector<float>(8, 1.0f)));
    writer.AddInt(std::string("gemma4.") + key, 2);
    EXPECT_THAT(GgufConfigError(writer), HasSubstr(std::string(key) + ": is not supported"));
  }
}

}  // namespace
}  // namespace penstock
