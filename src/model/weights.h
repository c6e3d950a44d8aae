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
#include "model/model_config.h"
#include "model/tensor_source.h"
#include "penstock/backend.h"

namespace penstock {

struct LayerWeights {
  DeviceBuffer input_norm;  // float32 [hidden]
  DeviceBuffer post_norm;   // float32 [hidden]
  DeviceBuffer q_norm;      // float32 [head_dim]; empty: none
  DeviceBuffer k_norm;      // float32 [head_dim]; empty: none
  PackedLinear qkv;         // [(num_heads + 2 num_kv_heads) head_dim, hidden]
  PackedLinear o;           // [hidden, num_heads head_dim]
  PackedLinear gate_up;     // [2 intermediate, hidden]
  PackedLinear down;        // [hidden, intermediate]
};

struct ModelWeights {
  Tensor embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  DeviceBuffer final_norm;  // float32 [hidden]
  PackedLinear lm_head;     // [vocab, hidden]

  DeviceBuffer embedding_storage;               // where the table was copied
  std::shared_ptr<const void> embedding_owner;  // where it lies on the host
};

/// (what is being loaded, parts done, parts in all)
using LoadProgress = std::function<void(std::string_view what, int64_t done, int64_t total)>;

/// Errors name file and tensor, what was there and what config.json asks for.
absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, TensorSource& source,
                                         Device& device, const LoadProgress& progress);

}  // namespace penstock
