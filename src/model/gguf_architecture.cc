#include "model/gguf_architecture.h"

#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/gguf.h"

namespace penstock {
namespace {

constexpr GgufArchitecture kGgufArchitectures[] = {
    {.name = "llama", .hf_class = "LlamaForCausalLM", .model_type = "llama", .turned = true},
    {.name = "qwen2", .hf_class = "Qwen2ForCausalLM", .model_type = "qwen2"},
    {.name = "qwen3", .hf_class = "Qwen3ForCausalLM", .model_type = "qwen3"},
    {.name = "qwen2moe",
     .hf_class = "Qwen2MoeForCausalLM",
     .model_type = "qwen2_moe",
     .experts = GgufExperts::kQwen},
    {.name = "qwen3moe",
     .hf_class = "Qwen3MoeForCausalLM",
     .model_type = "qwen3_moe",
     .experts = GgufExperts::kQwen},
    {.name = "gemma2",
     .hf_class = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .norms_plus_one = true,
     .norms = GgufNorms::kGemma,
     .windows = GgufWindows::kPattern,
     .window_pattern = 2},
    {.name = "gemma3",
     .hf_class = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .norms_plus_one = true,
     .norms = GgufNorms::kGemma,
     .windows = GgufWindows::kPattern,
     .window_pattern = 6},
    {.name = "phi3",
     .hf_class = "Phi3ForCausalLM",
     .model_type = "phi3",
     .windows = GgufWindows::kAll},
    {.name = "gpt-oss",
     .hf_class = "GptOssForCausalLM",
     .model_type = "gpt_oss",
     .norms = GgufNorms::kAfterAttention,
     .experts = GgufExperts::kGptOss,
     .windows = GgufWindows::kPattern,
     .window_pattern = 2},
    {.name = "olmo2",
     .hf_class = "Olmo2ForCausalLM",
     .model_type = "olmo2",
     .norms = GgufNorms::kOlmo2},
    {.name = "exaone4",
     .hf_class = "Exaone4ForCausalLM",
     .model_type = "exaone4",
     .norms = GgufNorms::kOlmo2,
     .windows = GgufWindows::kPattern,
     .window_pattern = 4},
    {.name = "olmoe",
     .hf_class = "OlmoeForCausalLM",
     .model_type = "olmoe",
     .experts = GgufExperts::kOlmoe},
    {.name = "glm4",
     .hf_class = "Glm4ForCausalLM",
     .model_type = "glm4",
     .norms = GgufNorms::kGlm4},
    {.name = "granite",
     .hf_class = "GraniteForCausalLM",
     .model_type = "granite",
     .turned = true,
     .multipliers = true},
    {.name = "deepseek2",
     .hf_class = "DeepseekV3ForCausalLM",
     .model_type = "deepseek_v3",
     .latent = true,
     .experts = GgufExperts::kDeepSeek},
    {.name = "glm4moe",
     .hf_class = "Glm4MoeForCausalLM",
     .model_type = "glm4_moe",
     .norms = GgufNorms::kAfterAttention,
     .experts = GgufExperts::kDeepSeek},
    {.name = "mistral3",
     .hf_class = "Ministral3ForCausalLM",
     .model_type = "ministral3",
     .turned = true,
     .windows = GgufWindows::kAll},
    {.name = "cohere2",
     .hf_class = "Cohere2ForCausalLM",
     .model_type = "cohere2",
     .layer_norm = true,
     .windows = GgufWindows::kPattern,
     .window_pattern = 4},
    {.name = "gpt2",
     .hf_class = "GPT2LMHeadModel",
     .model_type = "gpt2",
     .layer_norm = true,
     .gpt2 = true},
    {.name = "qwen35",
     .hf_class = "Qwen3_5ForCausalLM",
     .model_type = "qwen3_5_text",
     .norms_plus_one = true,
     .delta = true,
     .norms = GgufNorms::kAfterAttention},
    {.name = "qwen35moe",
     .hf_class = "Qwen3_5MoeForCausalLM",
     .model_type = "qwen3_5_moe_text",
     .norms_plus_one = true,
     .delta = true,
     .norms = GgufNorms::kAfterAttention,
     .experts = GgufExperts::kQwen},
    {.name = "gemma4",
     .hf_class = "Gemma4ForCausalLM",
     .model_type = "gemma4_text",
     .per_layer_heads = true,
     .norms = GgufNorms::kGemma,
     .windows = GgufWindows::kPattern,
     .window_pattern = 6},
    {.name = "smollm3", .hf_class = "SmolLM3ForCausalLM", .model_type = "smollm3", .turned = true},
};

}  // namespace

absl::StatusOr<GgufArchitecture> ArchitectureOf(const Gguf& file) {
  ASSIGN_OR_RETURN(const std::optional<std::string_view> name, file.String("general.architecture"));
  for (const GgufArchitecture& row : kGgufArchitectures) {
    if (name != row.name) continue;
    GgufArchitecture found = row;
    if (row.name == "olmo2") {  // OLMo 3 too, with a window
      ASSIGN_OR_RETURN(const auto window, file.Int("olmo2.attention.sliding_window"));
      if (window.value_or(0) <= 0) return found;
      found.hf_class = "Olmo3ForCausalLM";
      found.model_type = "olmo3";
      found.windows = GgufWindows::kPattern;
      found.window_pattern = 4;
      return found;
    }
    if (row.name != "llama") return found;
    // Mixtral and Mistral are spelt as llama.
    ASSIGN_OR_RETURN(const std::optional<int64_t> experts, file.Int("llama.expert_count"));
    ASSIGN_OR_RETURN(const auto window, file.Int("llama.attention.sliding_window"));
    if (experts.value_or(0) > 0) {
      found.hf_class = "MixtralForCausalLM";
      found.model_type = "mixtral";
      found.experts = GgufExperts::kMixtral;
    } else if (window.value_or(0) > 0) {
      found.hf_class = "MistralForCausalLM";
      found.model_type = "mistral";
    }
    if (window.value_or(0) > 0) found.windows = GgufWindows::kAll;
    return found;
  }
  return absl::UnimplementedError(absl::StrCat(
      file.paths().front(), ": general.architecture ",
      name ? absl::StrCat("\"", absl::CEscape(ToAbsl(name->substr(0, 64))), "\"") : "is missing;",
      name ? " is not known; known are " : " known are ", KnownGgufArchitectures()));
}

std::string KnownGgufArchitectures() {
  std::string known;
  for (const GgufArchitecture& row : kGgufArchitectures)
    absl::StrAppend(&known, known.empty() ? "" : ", ", ToAbsl(row.name));
  return known;
}

}  // namespace penstock
