#include "model/families.h"

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr NormNames kSandwich = {"input_layernorm", "post_attention_layernorm",
                                 "pre_feedforward_layernorm", "post_feedforward_layernorm"};
constexpr NormNames kAfter = {"", "post_attention_layernorm", "", "post_feedforward_layernorm"};
constexpr NormNames kGlm = {"input_layernorm", "post_self_attn_layernorm",
                            "post_attention_layernorm", "post_mlp_layernorm"};

constexpr std::string_view kGemma3Defaults =
    R"({"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rope_theta": 1e6,
        "rope_local_base_freq": 1e4, "max_position_embeddings": 131072, "vocab_size": 262208,
        "sliding_window": 4096, "query_pre_attn_scalar": 256})";

/// Keys of older forms (rope_theta, rope_local_base_freq) say nothing in this family's files.
constexpr std::string_view kGemma4Defaults =
    R"({"sliding_window": 512, "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25,
                           "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}})";

constexpr Family kFamilies[] = {
    {.architecture = "LlamaForCausalLM",
     .model_type = "llama",
     .title = "Llama 1 to 3.3 and what shares their form",
     .bias = BiasRule::kConfig,
     .mlp_bias_by_config = true},
    {.architecture = "MistralForCausalLM",
     .model_type = "mistral",
     .title = "Mistral",
     .windows = WindowRule::kAll},
    {.architecture = "Ministral3ForCausalLM",
     .model_type = "ministral3",
     .title = "Ministral 3",
     .windows = WindowRule::kAll,
     .query_scaling = true},
    {.architecture = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .title = "Qwen 2, 2.5",
     .bias = BiasRule::kQkv,
     .windows = WindowRule::kQwen},
    {.architecture = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .title = "Qwen 3",
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kPerHead,
     .windows = WindowRule::kQwen},
    {.architecture = "GemmaForCausalLM",
     .model_type = "gemma",
     .title = "Gemma",
     .defaults = R"({"head_dim": 256})",
     .norm = NormType::kRmsPlusOne,
     .bias = BiasRule::kConfig,
     .tied_by_default = true,
     .activation = "gelu_pytorch_tanh",
     .scaled_embedding = true},
    {.architecture = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .title = "Gemma 2",
     .defaults = R"({"head_dim": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
                    "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256})",
     .norms = kSandwich,
     .norm = NormType::kRmsPlusOne,
     .bias = BiasRule::kConfig,
     .tied_by_default = true,
     .activation = "gelu_pytorch_tanh",
     .windows = WindowRule::kPattern,
     .window_pattern = 2,
     .scaled_embedding = true,
     .soft_caps = true,
     .query_scalar = true},
    {.architecture = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .title = "Gemma 3",
     .defaults = kGemma3Defaults,
     .norms = kSandwich,
     .norm = NormType::kRmsPlusOne,
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kPerHead,
     .tied_by_default = true,
     .activation = "gelu_pytorch_tanh",
     .windows = WindowRule::kPattern,
     .window_pattern = 6,
     .local_rope = true,
     .scaled_embedding = true,
     .soft_caps = true,
     .query_scalar = true},
    {.architecture = "Gemma4ForCausalLM",
     .model_type = "gemma4_text",
     .title = "Gemma 4, dense without per-layer embeddings",
     .defaults = kGemma4Defaults,
     .norms = kSandwich,
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kPerHead,
     .v_norm = true,
     .tied_by_default = true,
     .activation = "gelu_pytorch_tanh",
     .windows = WindowRule::kPattern,
     .window_pattern = 6,
     .local_rope = true,
     .scaled_embedding = true,
     .soft_caps = true,
     .unit_scale = true,
     .layer_scalar = true,
     .per_layer_heads = true},
    {.architecture = "Phi3ForCausalLM",
     .model_type = "phi3",
     .title = "Phi 3, 3.5, 4",
     .layout = Layout::kFused,
     .windows = WindowRule::kAll},
    {.architecture = "Olmo2ForCausalLM",
     .model_type = "olmo2",
     .title = "OLMo 2",
     .norms = kAfter,
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kWhole},
    {.architecture = "Olmo3ForCausalLM",
     .model_type = "olmo3",
     .title = "OLMo 3",
     .norms = kAfter,
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kWhole,
     .windows = WindowRule::kPattern,
     .window_pattern = 4,
     .local_rope = true},
    {.architecture = "GraniteForCausalLM",
     .model_type = "granite",
     .title = "Granite 3, 4 dense",
     .bias = BiasRule::kConfig,
     .mlp_bias_by_config = true,
     .multipliers = true},
    {.architecture = "SmolLM3ForCausalLM",
     .model_type = "smollm3",
     .title = "SmolLM 3",
     .bias = BiasRule::kConfig,
     .mlp_bias_by_config = true,
     .tied_by_default = true,
     .windows = WindowRule::kQwen,
     .rope = RopeRule::kNoRopeLayers},
    {.architecture = "Glm4ForCausalLM",
     .model_type = "glm4",
     .title = "GLM 4 (0414)",
     .norms = kGlm,
     .layout = Layout::kFusedMlp,
     .bias = BiasRule::kQkvByConfig,
     .rope_interleaved = true,
     .partial_rotary = 0.5},
    {.architecture = "Cohere2ForCausalLM",
     .model_type = "cohere2",
     .title = "Command R7B, A",
     .norms = {"input_layernorm", "", "", ""},
     .norm = NormType::kLayerNoBias,
     .bias = BiasRule::kConfig,
     .tied_by_default = true,
     .parallel_block = true,
     .windows = WindowRule::kPattern,
     .window_pattern = 4,
     .rope = RopeRule::kWindowed,
     .rope_interleaved = true,
     .logit_scale = true},
    {.architecture = "Exaone4ForCausalLM",
     .model_type = "exaone4",
     .title = "EXAONE 4",
     .norms = kAfter,
     .qk_norm = QkNorm::kPerHead,
     .windows = WindowRule::kPattern,
     .window_pattern = 4,
     .rope = RopeRule::kWindowed},
    {.architecture = "GPT2LMHeadModel",
     .model_type = "gpt2",
     .title = "GPT-2",
     .norms = {"ln_1", "", "ln_2", ""},
     .norm = NormType::kLayer,
     .layout = Layout::kGpt2,
     .bias = BiasRule::kAlways,
     .mlp_bias = true,
     .tied_by_default = true,
     .gated_mlp = false,
     .position_table = true,
     .activation = "gelu_new",
     .rope = RopeRule::kNone},
    {.architecture = "GPTNeoXForCausalLM",
     .model_type = "gpt_neox",
     .title = "GPT-NeoX, Pythia",
     .norm = NormType::kLayer,
     .layout = Layout::kGptNeoX,
     .bias = BiasRule::kAlways,
     .mlp_bias = true,
     .gated_mlp = false,
     .parallel_block = true,
     .activation = "gelu",
     .partial_rotary = 0.25},
    {.architecture = "MixtralForCausalLM",
     .model_type = "mixtral",
     .title = "Mixtral",
     .windows = WindowRule::kAll,
     .experts = ExpertsRule::kMixtral},
    {.architecture = "Qwen2MoeForCausalLM",
     .model_type = "qwen2_moe",
     .title = "Qwen 1.5, 2 MoE",
     .bias = BiasRule::kQkvKey,
     .windows = WindowRule::kQwen,
     .experts = ExpertsRule::kQwenMoe},
    {.architecture = "Qwen3MoeForCausalLM",
     .model_type = "qwen3_moe",
     .title = "Qwen 3 MoE",
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kPerHead,
     .windows = WindowRule::kQwen,
     .experts = ExpertsRule::kQwenMoe},
    {.architecture = "OlmoeForCausalLM",
     .model_type = "olmoe",
     .title = "OLMoE",
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kWhole,
     .experts = ExpertsRule::kOlmoe},
    {.architecture = "GptOssForCausalLM",
     .model_type = "gpt_oss",
     .title = "gpt-oss",
     .bias = BiasRule::kConfig,
     .windows = WindowRule::kPattern,
     .window_pattern = 2,
     .sinks = true,
     .experts = ExpertsRule::kGptOss},
    {.architecture = "Glm4MoeForCausalLM",
     .model_type = "glm4_moe",
     .title = "GLM 4.5, 4.6",
     .bias = BiasRule::kQkvByConfig,
     .qk_norm = QkNorm::kPerHead,
     .qk_norm_by_config = true,
     .partial_rotary = 0.5,
     .experts = ExpertsRule::kDeepSeek},
    {.architecture = "DeepseekV3ForCausalLM",
     .model_type = "deepseek_v3",
     .title = "DeepSeek V3, R1",
     .bias = BiasRule::kConfig,
     .rope_interleaved = true,
     .latent = true,
     .experts = ExpertsRule::kDeepSeek},
    {.architecture = "Qwen3_5ForCausalLM",
     .model_type = "qwen3_5_text",
     .title = "Qwen 3.5, dense",
     .norm = NormType::kRmsPlusOne,
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kPerHead,
     .partial_rotary = 0.25,
     .delta = true,
     .attention_gate = true},
    {.architecture = "Qwen3_5MoeForCausalLM",
     .model_type = "qwen3_5_moe_text",
     .title = "Qwen 3.5 MoE",
     .defaults = R"({"norm_topk_prob": true})",
     .norm = NormType::kRmsPlusOne,
     .bias = BiasRule::kConfig,
     .qk_norm = QkNorm::kPerHead,
     .partial_rotary = 0.25,
     .delta = true,
     .attention_gate = true,
     .experts = ExpertsRule::kQwenMoe},
};

/// Language parts of checkpoints whose files call them by a name of their own.
struct Alias {
  std::string_view model_type;
  std::string_view family;
};
constexpr Alias kAliases[] = {
    {"gemma3", "Gemma3ForCausalLM"},          {"gemma4", "Gemma4ForCausalLM"},
    {"gemma4_unified", "Gemma4ForCausalLM"},  {"qwen3_5", "Qwen3_5ForCausalLM"},
    {"qwen3_5_moe", "Qwen3_5MoeForCausalLM"}, {"qwen2_vl", "Qwen2ForCausalLM"},
    {"qwen2_vl_text", "Qwen2ForCausalLM"},    {"qwen2_5_vl", "Qwen2ForCausalLM"},
    {"qwen2_5_vl_text", "Qwen2ForCausalLM"},  {"qwen3_vl", "Qwen3ForCausalLM"},
    {"qwen3_vl_text", "Qwen3ForCausalLM"},    {"qwen3_vl_moe_text", "Qwen3MoeForCausalLM"},
};

const Family* ByArchitecture(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.architecture == name) return &family;
  }
  return nullptr;
}

}  // namespace

absl::Span<const Family> Families() { return kFamilies; }

const Family* FindFamily(std::string_view architecture, std::string_view model_type) {
  if (const Family* family = ByArchitecture(architecture)) return family;
  // The model_type speaks where there is no architecture, or one that wraps a text model.
  const bool wrapped = architecture.empty() ||
                       architecture.find("ForConditionalGeneration") != std::string_view::npos;
  if (!wrapped) return nullptr;
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  for (const Alias& alias : kAliases) {
    if (alias.model_type == model_type) return ByArchitecture(alias.family);
  }
  return nullptr;
}

std::string KnownArchitectures() {
  std::string names;
  for (const Family& family : kFamilies) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", ToAbsl(family.architecture));
  }
  return names;
}

}  // namespace penstock
