// The table of model families: what a network is beyond what its config.json spells out. To add a
// family, add a row; a new flag only where the block differs in a way that no row has yet.
// Owns nothing. Must not know weights, devices or how a file is read.
// Threads: immutable.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "model/model_config.h"

namespace penstock {

/// Which layers have a window.
enum class WindowRule : uint8_t {
  kNone,
  kAll,        // sliding_window, where it is set, is every layer's
  kQwen,       // use_sliding_window: layer_types, or the layers from max_window_layers on
  kFromLayer,  // layer_types, or the layers from max_window_layers on
  kPattern,    // layer_types, or all but every n-th layer
};

/// Which layers turn q and k.
enum class RopeRule : uint8_t {
  kAll,
  kNone,
  kWindowed,      // the layers with a window, where the model has such
  kNoRopeLayers,  // no_rope_layers (1: turns), or all but every no_rope_layer_interval-th
};

/// Whose projections have a bias.
enum class BiasRule : uint8_t {
  kNever,
  kQkv,          // q, k and v
  kConfig,       // attention_bias is of q, k, v and o
  kQkvByConfig,  // attention_bias is of q, k and v
  kQkvKey,       // qkv_bias, true where absent
  kAlways,       // q, k, v and o
  kConfigApart,  // attention_bias is of q, k and v, attention_out_bias of o
  kUseBias,      // use_bias is of q, k, v, o and the mlp
  kUseQkvBias,   // use_qkv_bias is of q, k and v
};

/// How a mixture's keys and tensors are called, and how it routes.
enum class ExpertsRule : uint8_t {
  kNone,
  kMixtral,
  kQwenMoe,  // num_experts, moe_intermediate_size, decoder_sparse_step, mlp_only_layers
  kOlmoe,
  kGptOss,
  kDeepSeek,    // n_routed_experts, first_k_dense_replace, groups, e_score_correction_bias
  kDeepSeekV2,  // the same with softmax, no bias, groups by their best
  kGraniteMoe,  // experts in one tensor, shared_intermediate_size
  kMiniMax,     // Mixtral's names, sigmoid, e_score_correction_bias
  kErnie,       // moe_num_experts, moe_k, moe_layer_start_index, moe_statics
};

/// How the layers that predict a token further ahead are called (DeepSeek-V3, section 2.2).
enum class HeadsRule : uint8_t {
  kNone,      // the family has none, or none that are known here
  kNumbered,  // a layer behind the last, with enorm, hnorm, eh_proj and shared_head
  kMtp,       // mtp.layers, with fc, pre_fc_norm_embedding, pre_fc_norm_hidden and norm
};

struct Family {
  std::string_view architecture;
  std::string_view model_type;
  std::string_view title;            // for people
  std::string_view defaults = "{}";  // JSON: keys that hub files leave out
  NormNames norms = {"input_layernorm", "", "post_attention_layernorm", ""};
  NormType norm = NormType::kRms;
  Layout layout = Layout::kLlama;
  BiasRule bias = BiasRule::kNever;
  bool mlp_bias_by_config = false;
  bool mlp_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  bool qk_norm_by_config = false;  // use_qk_norm
  bool v_norm = false;
  bool tied_by_default = false;
  bool gated_mlp = true;
  bool parallel_block = false;
  bool parallel_norm = false;  // a parallel block has one norm, which both read
  bool position_table = false;
  bool head_bias = false;
  std::string_view activation = "silu";  // where the file does not say
  WindowRule windows = WindowRule::kNone;
  int32_t window_pattern = 0;  // every n-th layer sees everything
  RopeRule rope = RopeRule::kAll;
  bool rope_interleaved = false;
  double partial_rotary = 1.0;    // where the file does not say
  bool local_rope = false;        // windowed layers turn by rope_local_base_freq, unscaled
  bool scaled_embedding = false;  // by sqrt(hidden_size)
  bool soft_caps = false;         // attn_logit_softcapping, final_logit_softcapping
  bool query_scalar = false;      // query_pre_attn_scalar
  bool unit_scale = false;        // attention_scale is 1
  bool multipliers = false;       // Granite's four
  bool query_scaling = false;     // llama_4_scaling_beta of the rope parameters
  bool logit_scale = false;
  bool sinks = false;
  bool layer_scalar = false;
  bool per_layer_heads = false;  // Gemma 4: full layers have heads of their own
  bool latent = false;
  bool delta = false;        // layer_types may say linear_attention
  bool fused_delta = false;  // in_proj_qkvz, in_proj_ba
  bool attention_gate = false;
  ExpertsRule experts = ExpertsRule::kNone;
  HeadsRule heads = HeadsRule::kNone;
};

absl::Span<const Family> Families();

/// By architecture, or by model_type where that is empty. nullptr: not in the table.
const Family* FindFamily(std::string_view architecture, std::string_view model_type);

/// Every architecture of the table, for messages.
std::string KnownArchitectures();

}  // namespace penstock
