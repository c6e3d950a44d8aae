// The rotary embedding's angles: which frequency each pair of dimensions turns with, and its
// cosines and sines.
// Owns nothing. Must not know devices.
// Threads: value.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace penstock {

/// Radians per position of each pair of dimensions: [rotary_dim / 2]; `beyond`: of a sequence that
/// has outgrown the original context.
/// "linear": Chen et al. 2023; "dynamic": unscaled within the trained context, which is all that is
/// served; "llama3": Llama 3.1; "yarn": Peng et al. 2023; "longrope": Ding et al. 2024, with one set
/// of factors within the original context and another beyond it; "proportional": Gemma 4.
std::vector<float> RopeFrequencies(const RopeConfig& rope, bool beyond = false);

/// The length beyond which a sequence turns by other frequencies, where it can reach that; else 0.
int32_t RopeSplit(const RopeConfig& rope, int32_t num_positions);

/// What cos and sin are multiplied with (the attention factor of yarn and longrope, else 1).
float RopeMagnitude(const RopeConfig& rope);

/// [num_positions, 2, rotary_dim / 2]: cosines, then sines. Where there is a split, twice as many
/// rows: the second half is of sequences beyond it.
std::vector<float> RopeTable(const RopeConfig& rope, int32_t num_positions);

}  // namespace penstock
