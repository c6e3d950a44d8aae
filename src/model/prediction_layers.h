// Layers that a checkpoint carries beyond the network to predict several tokens ahead: they are not
// run, and whoever loads the model is told.
// Owns nothing. Must not know files.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

/// "mtp" or "model.layers.61" of "model.layers.61.mlp.up_proj.weight" ("blk.61" in a GGUF file),
/// where the network has `num_layers` layers or fewer; empty: the tensor is of no such layer.
std::string PredictionLayerOf(std::string_view tensor, int64_t num_layers);

}  // namespace penstock
