// What of a checkpoint nothing reads: parts of another kind (a vision tower), layers that predict
// further ahead, and what a network of this description would have needed.
// Owns nothing. Must not know files.
// Threads: value.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/tensor_source.h"

namespace penstock {

struct TensorShare {
  int64_t num_tensors = 0;
  int64_t num_bytes = 0;
};

struct UnreadTensors {
  /// By their layer: "mtp", "model.layers.61".
  std::map<std::string, TensorShare> prediction_layers;
  /// All others by the first parts of their names, numbers as "*": "vision_tower.encoder.*".
  std::map<std::string, TensorShare> others;
};

/// Of what a source stores once a network of `num_layers` layers is loaded from it. UNIMPLEMENTED,
/// and names the tensor, where one would change what the network computes: it lies in one of its
/// layers or beside a tensor that was read, and is neither zero nor of a kind that is known to do
/// nothing here (a kept causal mask, kept rotary frequencies, scales of activations).
absl::StatusOr<UnreadTensors> SortUnread(absl::Span<const StoredTensor> stored, int64_t num_layers);

}  // namespace penstock
