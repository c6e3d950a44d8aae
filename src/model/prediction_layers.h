// Layers that a checkpoint carries beyond the network to predict several tokens ahead: they are not
// run, and whoever loads the model is told.
// Owns nothing. Must not know files.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace penstock {

/// "mtp" or "model.layers.61" of "model.layers.61.mlp.up_proj.weight", where the network has
/// `num_layers` layers or fewer; empty: the tensor is of no such layer.
std::string PredictionLayerOf(std::string_view tensor, int64_t num_layers);

/// Those of all `tensors`, each once, in order.
std::vector<std::string> PredictionLayers(absl::Span<const std::string> tensors,
                                          int64_t num_layers);

}  // namespace penstock
