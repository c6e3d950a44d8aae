// A model's weights on a device, packed for its linear layers.
// Owns device memory and, where a table lies on it, the mapped file. Must not know the order of
// computation.
// Threads: immutable after loading.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/layer_linears.h"
#include "model/model_config.h"
#include "model/model_shard.h"
#include "model/tensor_source.h"
#include "penstock/backend.h"

namespace penstock {

/// float32 [n]; empty: none.
struct NormWeights {
  DeviceBuffer weight;
  DeviceBuffer bias;
};

/// Latent attention with its up-projections taken into q and out of the result, so that attention
/// reads the latents themselves (DeepSeek-V2, section 2.1).
struct LatentWeights {
  PackedLinear q_a;  // [q_rank, hidden]; empty where q is projected directly
  NormWeights q_a_norm;
  PackedLinear q_nope;               // [num_heads nope_dim, q_rank or hidden]
  std::vector<PackedLinear> q_rope;  // per head [rope_dim, q_rank or hidden]
  PackedLinear kv_a;                 // [kv_rank + rope_dim, hidden]
  NormWeights kv_a_norm;             // [kv_rank]
  std::vector<PackedLinear> k_up;    // per head [kv_rank, nope_dim]
  std::vector<PackedLinear> v_up;    // per head [value_dim, kv_rank]
};

/// A layer of the gated delta rule.
struct DeltaWeights {
  PackedLinear qkv;      // [channels, hidden]
  PackedLinear z;        // [num_value_heads value_dim, hidden]
  PackedLinear ba;       // [2 num_value_heads, hidden]
  DeviceBuffer conv;     // float32 [conv_width, channels]
  DeviceBuffer decay;    // float32 [num_value_heads]
  DeviceBuffer dt_bias;  // float32 [num_value_heads]
  NormWeights norm;      // [value_dim]
  PackedLinear out;      // [hidden, num_value_heads value_dim]
};

/// A mixture of experts; the last expert is the shared one, where there is one.
struct MixtureWeights {
  PackedLinear router;      // [num_experts, or one more for the shared expert's gate, hidden]
  DeviceBuffer score_bias;  // float32 [num_experts]; empty: none
  std::vector<ExpertWeights> experts;
};

struct LayerWeights {
  NormWeights attention_input, attention_output;  // [hidden]
  NormWeights mlp_input, mlp_output;              // [hidden]
  NormWeights q_norm, k_norm;  // [head_dim], or of all heads where config.qk_norm is kWhole
  DeviceBuffer sinks;          // float32 [num_heads]; empty: none
  PackedLinear qkv;  // [(num_heads + 2 num_kv_heads) head_dim, hidden]; then the gate's num_heads
                     // head_dim
  PackedLinear o;    // [hidden, num_heads head_dim]
  PackedLinear gate_up;  // [2 intermediate, hidden], or [intermediate, hidden] without a gate
  PackedLinear down;     // [hidden, intermediate]
  float scalar = 1;      // of the residual after the layer
  std::unique_ptr<LatentWeights> latent;
  std::unique_ptr<DeltaWeights> delta;
  std::unique_ptr<MixtureWeights> mixture;
};

struct EncoderLayerWeights {
  PackedLinear qkv;  // [3 hidden, hidden]
  PackedLinear o;    // [hidden, hidden]
  NormWeights attention_norm;
  PackedLinear up;    // [intermediate, hidden]
  PackedLinear down;  // [hidden, intermediate]
  NormWeights mlp_norm;
};

struct EncoderWeights {
  Tensor words;      // [vocab, hidden]
  Tensor positions;  // [position_offset + max_positions, hidden]
  Tensor types;      // [num_types, hidden]; no rows: none
  NormWeights norm;
  std::vector<EncoderLayerWeights> layers;
  PackedLinear head_dense;  // [hidden, hidden]; empty: no classifier
  PackedLinear head_out;    // [num_labels, hidden]
};

struct ModelWeights {
  std::unique_ptr<EncoderWeights> encoder;  // of an encoder: all but tables and owners
  Tensor embedding;  // [vocab, hidden]; no rows: packed_embedding, and where that is empty lm_head
  PackedLinear packed_embedding;  // a table of codes that is not the head's as well
  Tensor positions;               // [max_positions, hidden]; no rows: none
  std::vector<LayerWeights> layers;
  NormWeights final_norm;                     // [hidden]
  PackedLinear lm_head;                       // [vocab, hidden]
  const PackedLinear* shared_head = nullptr;  // another model's in place of lm_head; null: none

  const PackedLinear& head() const { return shared_head != nullptr ? *shared_head : lm_head; }
  /// The table of codes that embeds; null: `embedding`.
  const PackedLinear* packed_table() const {
    if (embedding.rows > 0) return nullptr;
    return packed_embedding.n > 0 ? &packed_embedding : &lm_head;
  }

  int64_t vocab_begin = 0;  // the token of the first row of embedding and lm_head

  std::vector<DeviceBuffer> tables;                 // where the tables were copied
  std::vector<std::shared_ptr<const void>> owners;  // where they lie on the host
};

class WeightLoader;

/// A block like layer `layer` of `config`, from tensors whose names start with `prefix`.
absl::StatusOr<LayerWeights> LoadLayer(const ModelConfig& config, size_t layer,
                                       const std::string& prefix, WeightLoader& loader);

/// As the layout calls them, with what stands before the names of `source`.
ModelNames FindNames(Layout layout, const TensorSource& source);

/// (what is being loaded, how far as bytes of the files, bytes in all: 0 where there are no files)
using LoadProgress = std::function<void(std::string_view what, int64_t done, int64_t total)>;

/// Errors name file and tensor, what was there and what config.json asks for.
/// `config` is the whole model's; of a shard those of its rank, which CheckShards has found sound.
absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, TensorSource& source,
                                         Device& device, const LoadProgress& progress,
                                         const ModelShard& shard = {});

}  // namespace penstock
