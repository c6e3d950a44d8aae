#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "model/config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr int32_t kMaxExperts = 4096;

/// All layers, or those that decoder_sparse_step, mlp_only_layers and first_k_dense_replace leave.
void MarkLayers(ConfigReader& config, ModelConfig& out) {
  const int32_t step = config.Int("decoder_sparse_step", 1, 1, kMaxLayers);
  const int32_t first = config.Int("first_k_dense_replace", 0, 0, kMaxLayers);
  for (int32_t i = 0; i < static_cast<int32_t>(out.layers.size()); ++i) {
    out.layers[i].experts = i >= first && (i + 1) % step == 0;
  }
  const Json* dense = config.Find("mlp_only_layers");
  if (dense == nullptr) return;
  if (!dense->is_array()) return config.Fail("mlp_only_layers", "expected a list of layers");
  for (const Json& layer : *dense) {
    if (layer.is_number_integer() && layer >= 0 && layer < out.layers.size()) {
      out.layers[layer.get<size_t>()].experts = false;
    }
  }
}

void ReadQwenMoe(ConfigReader& config, ModelConfig& out) {
  ExpertsConfig& e = out.experts;
  e.num_experts = config.Int("num_experts", std::nullopt, 1, kMaxExperts);
  e.intermediate_size = config.Int("moe_intermediate_size", std::nullopt, 1, kMaxSize);
  e.shared_intermediate_size = config.Int("shared_expert_intermediate_size", 0, 0, kMaxSize);
  e.shared_gate = e.shared_intermediate_size > 0;
  e.rule.normalize = config.Bool("norm_topk_prob", false);
  e.block = "mlp.";
  e.router = "gate";
}

void ReadDeepSeek(ConfigReader& config, ModelConfig& out) {
  ExpertsConfig& e = out.experts;
  e.num_experts = config.Int("n_routed_experts", std::nullopt, 1, kMaxExperts);
  e.intermediate_size = config.Int("moe_intermediate_size", std::nullopt, 1, kMaxSize);
  const int32_t shared = config.Int("n_shared_experts", 1, 0, 64);
  e.shared_intermediate_size = shared * e.intermediate_size;
  e.rule.score = RouterScore::kSigmoid;
  e.rule.normalize = config.Bool("norm_topk_prob", true);
  e.rule.num_groups = config.Int("n_group", 1, 1, kMaxExperts);
  e.rule.top_groups = config.Int("topk_group", 1, 1, kMaxExperts);
  e.rule.scale = static_cast<float>(config.Number("routed_scaling_factor", 1.0, 0.0, 1e4));
  e.score_bias = "gate.e_score_correction_bias";
  e.block = "mlp.";
  e.router = "gate";
  if (e.num_experts % e.rule.num_groups != 0) {
    config.Fail("n_group", absl::StrCat(e.rule.num_groups, " does not divide n_routed_experts ",
                                        e.num_experts));
  } else if (e.rule.top_groups > e.rule.num_groups) {
    config.Fail("topk_group", "expected at most n_group");
  } else if (e.rule.num_groups > 1 && e.num_experts / e.rule.num_groups < 2) {
    config.Fail("n_group", "expected at least two experts in a group");
  }
}

/// DeepSeek-V2: no bias, and a group is judged by its best.
void ReadDeepSeekV2(ConfigReader& config, ModelConfig& out) {
  ReadDeepSeek(config, out);
  ExpertsConfig& e = out.experts;
  e.rule.score = RouterScore::kSoftmax;
  e.rule.normalize = false;
  e.rule.group_best = 1;
  e.score_bias = "";
  if (config.Bool("norm_topk_prob", false)) config.Fail("norm_topk_prob", "is not supported");
  const std::string method = config.String("topk_method", "greedy");
  if (method == "greedy") {
    e.rule.num_groups = e.rule.top_groups = 1;
  } else if (method != "group_limited_greedy") {
    config.Fail("topk_method", "expected greedy or group_limited_greedy");
  }
}

void ReadGraniteMoe(ConfigReader& config, ModelConfig& out) {
  ExpertsConfig& e = out.experts;
  e.num_experts = config.Int("num_local_experts", std::nullopt, 1, kMaxExperts);
  e.intermediate_size = out.intermediate_size;
  e.shared_intermediate_size = config.Int("shared_intermediate_size", 0, 0, kMaxSize);
  e.shared_fused = true;
  e.rule.score = RouterScore::kSoftmaxOfChosen;
  e.block = "block_sparse_moe.";
  e.router = "router.layer";
  e.stacked[0] = "input_linear.weight";
  e.stacked[1] = "output_linear.weight";
  e.always_stacked = true;
}

void ReadMixtral(ConfigReader& config, ModelConfig& out) {
  ExpertsConfig& e = out.experts;
  e.num_experts = config.Int("num_local_experts", std::nullopt, 1, kMaxExperts);
  e.intermediate_size = out.intermediate_size;
  e.rule.normalize = true;
  e.block = "block_sparse_moe.";
  e.router = "gate";
  e.projections[0] = "w1";
  e.projections[1] = "w3";
  e.projections[2] = "w2";
}

void ReadErnie(ConfigReader& config, ModelConfig& out) {
  ExpertsConfig& e = out.experts;
  e.num_experts = config.Int("moe_num_experts", std::nullopt, 1, kMaxExperts);
  e.intermediate_size = config.Int("moe_intermediate_size", std::nullopt, 1, kMaxSize);
  e.shared_intermediate_size = config.Int("moe_num_shared_experts", 0, 0, 64) * e.intermediate_size;
  e.rule.normalize = true;
  e.score_bias = "moe_statics.e_score_correction_bias";
  e.score_bias_row = true;
  e.block = "mlp.";
  e.router = "gate";
  if (out.mlp_bias) config.Fail("use_bias", "is not supported beside experts");
  const auto last = static_cast<int32_t>(out.layers.size()) - 1;
  const int32_t end = config.Int("moe_layer_end_index", -1, -1, kMaxLayers);
  if (end >= 0 && end < last) config.Fail("moe_layer_end_index", "expected the last layer");
}

}  // namespace

void ReadExperts(ConfigReader& config, ExpertsRule rule, ModelConfig& out) {
  ExpertsConfig& e = out.experts;
  switch (rule) {
    case ExpertsRule::kNone:
      return;
    case ExpertsRule::kMixtral:
      ReadMixtral(config, out);
      break;
    case ExpertsRule::kMiniMax:
      ReadMixtral(config, out);
      e.rule.score = RouterScore::kSigmoid;
      e.score_bias = "e_score_correction_bias";
      break;
    case ExpertsRule::kQwenMoe:
      ReadQwenMoe(config, out);
      break;
    case ExpertsRule::kOlmoe:
      e.num_experts = config.Int("num_experts", std::nullopt, 1, kMaxExperts);
      e.intermediate_size = out.intermediate_size;
      e.rule.normalize = config.Bool("norm_topk_prob", false);
      e.block = "mlp.";
      e.router = "gate";
      break;
    case ExpertsRule::kGptOss:
      e.num_experts = config.Int("num_local_experts", std::nullopt, 1, kMaxExperts);
      e.intermediate_size = out.intermediate_size;
      e.rule.score = RouterScore::kSoftmaxOfChosen;
      e.router_bias = true;
      e.interleaved = e.always_stacked = true;
      e.block = "mlp.";
      e.router = "router";
      out.activation = Activation::kClampedSwiglu;
      out.swiglu_alpha = static_cast<float>(config.Number("swiglu_alpha", 1.702, 0.0, 1e3));
      out.swiglu_limit = static_cast<float>(config.Number("swiglu_limit", 7.0, 0.0, 1e6));
      break;
    case ExpertsRule::kDeepSeek:
      ReadDeepSeek(config, out);
      break;
    case ExpertsRule::kDeepSeekV2:
      ReadDeepSeekV2(config, out);
      break;
    case ExpertsRule::kGraniteMoe:
      ReadGraniteMoe(config, out);
      break;
    case ExpertsRule::kErnie:
      ReadErnie(config, out);
      break;
  }
  e.top_k = config.Int("num_experts_per_tok", std::nullopt, 1, kMaxExperts);
  if (e.top_k > e.num_experts / e.rule.num_groups * e.rule.top_groups) {
    config.Fail("num_experts_per_tok",
                absl::StrCat(e.top_k, " is more than the experts there are to choose from"));
  }
  MarkLayers(config, out);
}

}  // namespace penstock
