// A low-rank adapter on a device: for each linear layer of each block the factors of what it adds.
// Owns device memory. Must not know the order of computation, names or requests.
// Threads: immutable after loading; another adapter may be loaded meanwhile.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/model_config.h"
#include "penstock/backend.h"

namespace penstock {

/// y += scaling * b (a x) in columns [y_begin, y_begin + b.n) of y.
struct AdaptedPart {
  PackedLinear b;       // [n, rank], rows in the order of the layer's own
  int64_t a_begin = 0;  // of its rank rows of AdaptedLinear::a
  int64_t y_begin = 0;
  float scaling = 1;
};

/// What an adapter adds to one linear layer.
struct AdaptedLinear {
  PackedLinear a;  // [sum of the parts' ranks, k]
  std::vector<AdaptedPart> parts;
};

struct AdaptedLayer {
  AdaptedLinear qkv, o, gate_up, down;  // without parts: the adapter leaves it alone
};

struct AdapterWeights {
  std::vector<AdaptedLayer> layers;
  int32_t rank = 0;       // the largest
  int64_t num_bytes = 0;  // on the device
};

/// Of PEFT's `dir`: adapter_config.json, adapter_model.safetensors. Errors name file and tensor, and
/// what is not supported by its name; a rank above `max_rank` is one.
absl::StatusOr<AdapterWeights> LoadAdapter(const std::string& dir, const ModelConfig& config,
                                           Device& device, int32_t max_rank);

/// The most bytes that an adapter of `max_rank` takes on a device.
int64_t MaxAdapterBytes(const ModelConfig& config, int32_t max_rank);
/// The most rows that an AdaptedLinear::a has.
int64_t MaxAdapterColumns(const ModelConfig& config, int32_t max_rank);

}  // namespace penstock
