// What a config.json says about a network, in one form whatever the form of the file. A model
// family is a row of flags in model_config.cc. Owns its strings. Must not know weights or devices.
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

enum class RopeType : uint8_t { kNone, kDefault, kLinear, kDynamic, kLlama3, kYarn };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  int32_t original_max_positions = 0;
  double low_freq_factor = 1;   // llama3
  double high_freq_factor = 4;  // llama3
  double beta_fast = 32;        // yarn
  double beta_slow = 1;         // yarn
  double attention_factor = 0;  // yarn: of cos and sin; 0: from `factor`
  double mscale = 0;            // yarn
  double mscale_all_dim = 0;    // yarn
  bool truncate = true;         // yarn: the correction range, to whole dimensions
};

struct LayerConfig {
  int32_t window = 0;  // 0: full attention
};

struct ModelConfig {
  std::string architecture;  // as the file names it
  std::string model_type;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab_size = 0;
  int32_t max_positions = 0;
  float norm_eps = 1e-6f;
  Activation activation = Activation::kSilu;
  bool tied_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm per head of q and k, before the rotation
  float attention_scale = 0;
  RopeConfig rope;
  std::vector<LayerConfig> layers;
  DType file_dtype = DType::kFloat32;  // what the file says its weights are

  HeadShape heads() const { return {num_heads, num_kv_heads, head_dim}; }
};

/// Errors name `what` (a path), the key and what was expected.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view what);

/// `dir`/config.json.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir);

/// Every architecture of the table, for messages.
std::string KnownArchitectures();

}  // namespace penstock
