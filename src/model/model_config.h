// What a config.json says about a network, in one form whatever the form of the file. A model
// family is a row of flags in families.cc. Owns its strings. Must not know weights or devices.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/backend.h"
#include "penstock/types.h"

namespace penstock {

enum class RopeType : uint8_t {
  kDefault,
  kLinear,
  kDynamic,
  kLlama3,
  kYarn,
  kLongRope,
  kProportional,
};

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  int32_t rotary_dim = 0;     // dimensions that turn
  int32_t rotated_pairs = 0;  // proportional: pairs from here on stand still
  int32_t original_max_positions = 0;
  double low_freq_factor = 1;         // llama3
  double high_freq_factor = 4;        // llama3
  double beta_fast = 32;              // yarn
  double beta_slow = 1;               // yarn
  double attention_factor = 0;        // yarn, longrope: of cos and sin; 0: from `factor`
  double mscale = 0;                  // yarn
  double mscale_all_dim = 0;          // yarn
  bool truncate = true;               // yarn: the correction range, to whole dimensions
  std::vector<double> short_factors;  // longrope [rotary_dim / 2]
  std::vector<double> long_factors;   // longrope [rotary_dim / 2]
};

enum class NormType : uint8_t {
  kRms,
  kRmsPlusOne,  // the file holds weight - 1
  kLayer,       // LayerNorm with a bias
  kLayerNoBias,
  kLayerPlusOne,  // LayerNorm with a bias; the file holds weight - 1
  kLayerPlain,    // LayerNorm without weights
};

enum class QkNorm : uint8_t {
  kNone,
  kPerHead,  // RMSNorm of each head of q and k, before the rotation
  kWhole,    // RMSNorm over all heads of q, and of k
};

/// Whether it takes the mean away.
constexpr bool IsLayerNorm(NormType type) {
  return type != NormType::kRms && type != NormType::kRmsPlusOne;
}

/// The tensors of a block's norms, "" where there is none.
struct NormNames {
  std::string_view attention_input;
  std::string_view attention_output;  // of what attention adds to the residual
  std::string_view mlp_input;
  std::string_view mlp_output;
};

/// How tensors are named and laid out beyond that.
enum class Layout : uint8_t {
  kLlama,      // q_proj, k_proj, v_proj; gate_proj, up_proj
  kFused,      // qkv_proj; gate_up_proj
  kFusedMlp,   // q_proj, k_proj, v_proj; gate_up_proj
  kGpt2,       // c_attn and so on, stored [in, out]
  kGptNeoX,    // query_key_value with (q, k, v) of each head together
  kFalcon,     // query_key_value with the queries of each KV head, its k and its v together
  kPhi,        // q_proj, k_proj, v_proj, dense; fc1, fc2
  kStarcoder,  // q_proj, k_proj, v_proj; c_fc, c_proj
};

/// A mixture of experts in place of the gated layer.
struct ExpertsConfig {
  int32_t num_experts = 0;  // 0: the model has none
  int32_t top_k = 0;
  int32_t intermediate_size = 0;
  int32_t shared_intermediate_size = 0;  // of the expert that every token visits; 0: none
  bool shared_gate = false;              // which a sigmoid of its own weighs
  RouterRule rule;
  bool router_bias = false;
  std::string_view score_bias;  // tensor within the block that the choice adds; "": none
  bool score_bias_row = false;  // it is [1, num_experts]
  std::string_view block;       // "mlp." or "block_sparse_moe."
  std::string_view router;      // tensor within the block, without ".weight"
  std::string_view projections[3] = {"gate_proj", "up_proj", "down_proj"};
  // Experts in one tensor, where the file has such.
  std::string_view stacked[2] = {"experts.gate_up_proj", "experts.down_proj"};
  bool always_stacked = false;
  bool interleaved = false;   // gpt-oss: gate and up in turn, biases
  bool shared_fused = false;  // shared_mlp.input_linear and output_linear beside the block
};

/// Multi-head latent attention (DeepSeek-V2): the cache holds one latent per position.
struct LatentConfig {
  int32_t q_rank = 0;   // 0: q is projected directly
  int32_t kv_rank = 0;  // 0: the model has ordinary attention
  int32_t nope_dim = 0;
  int32_t rope_dim = 0;
  int32_t value_dim = 0;
};

/// What stands for a whole text.
enum class Pooling : uint8_t {
  kLast,  // the last position
  kFirst,
  kMean,
};

/// A bidirectional encoder (BERT, Devlin et al. 2019) in place of a decoder.
struct EncoderConfig {
  bool present = false;
  int32_t position_offset = 0;  // row of the table that the first position has
  int32_t num_types = 0;        // segments
  int32_t num_labels = 0;       // of a classifier over the first position; 0: none
  bool pooler = false;          // the classifier reads tanh of the pooler; else of its own dense
};

/// A dense layer over what was pooled, of a folder of its own.
struct DenseConfig {
  std::string folder = {};
  int32_t in_size = 0;
  int32_t out_size = 0;
  bool bias = true;
  bool tanh = false;  // else there is nothing behind it
};

struct LayerConfig {
  HeadShape heads;               // as attention sees them; latent attention: one head of latents
  int32_t window = 0;            // 0: full attention
  int32_t rope = 0;              // index into ModelConfig::ropes; -1: none
  bool experts = false;          // a mixture in place of the dense layer
  bool recurrent = false;        // gated delta rule in place of attention
  bool values_are_keys = false;  // v is k before its norm: there is no v_proj
};

struct ModelConfig {
  std::string architecture;  // as the table of families names it
  std::string model_type;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t vocab_size = 0;
  int32_t max_positions = 0;
  std::vector<LayerConfig> layers;
  std::vector<RopeConfig> ropes;

  NormType norm = NormType::kRms;
  float norm_eps = 1e-6f;
  NormNames norm_names;
  Layout layout = Layout::kLlama;
  Activation activation = Activation::kSilu;
  bool gated_mlp = true;
  bool rope_interleaved = false;  // pairs are (2i, 2i + 1) and not (i, i + rotary_dim / 2)
  bool parallel_block = false;    // attention and mlp read the same residual
  bool tied_embeddings = false;
  bool position_table = false;  // learned positions are added to the embeddings
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool head_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  bool v_norm = false;          // RMSNorm of each head of v, without weights
  bool attention_gate = false;  // q_proj holds a gate beside each head of q
  bool sinks = false;
  bool layer_scalar = false;  // the residual is multiplied at the end of each layer
  float attention_scale = 0;
  float attention_soft_cap = 0;
  float final_soft_cap = 0;
  float embedding_scale = 1;
  float residual_scale = 1;  // of what attention and mlp add
  float logit_scale = 1;
  float query_scale_beta = 0;  // q times 1 + beta log(1 + floor(position / original positions))
  ExpertsConfig experts;
  LatentConfig latent;
  DeltaShape delta;          // of the recurrent layers
  bool fused_delta = false;  // q, k, v and z of each key head together, and so b and a
  float swiglu_limit = 0;
  float swiglu_alpha = 0;
  DType file_dtype = DType::kFloat32;  // what the file says its weights are

  EncoderConfig encoder;
  Pooling pooling = Pooling::kLast;  // of embeddings
  std::vector<DenseConfig> dense;    // over what was pooled
  bool normalize = true;             // embeddings are of unit length
  bool lowercase = false;            // of texts in lower case
  int32_t max_input = 0;  // of the longest input that the model was made for; 0: all positions

  /// The longest input.
  int32_t context() const {
    return max_input > 0 && max_input < max_positions ? max_input : max_positions;
  }

  bool has_recurrent_layers() const { return delta.num_value_heads > 0; }
  bool has_latent_attention() const { return latent.kv_rank > 0; }
};

/// Errors name `what` (a path), the key and what was expected.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view what);

/// `dir`/config.json, and what modules.json says of pooling.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir);

}  // namespace penstock
