// The rotary embedding's angles: which frequency each pair of dimensions turns with, and its
// cosines and sines.
// Owns nothing. Must not know devices.
// Threads: value.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace penstock {

/// Radians per position of each pair of dimensions: [rotary_dim / 2].
/// "linear": Chen et al. 2023; "dynamic": unscaled within the trained context, which is all that is
/// served; "llama3": Llama 3.1; "yarn": Peng et al. 2023.
std::vector<float> RopeFrequencies(const RopeConfig& rope, int32_t rotary_dim);

/// What cos and sin are multiplied with (yarn's attention factor, else 1).
float RopeMagnitude(const RopeConfig& rope);

/// [num_positions, 2, rotary_dim / 2]: cosines, then sines.
std::vector<float> RopeTable(const RopeConfig& rope, int32_t rotary_dim, int32_t num_positions);

}  // namespace penstock
