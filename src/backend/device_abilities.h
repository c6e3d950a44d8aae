// What a device cannot compute, as whoever loads a model asks it.
// Owns nothing. Must not know models.
// Threads: value.
#pragma once

#include <cstdint>
#include <limits>

#include "penstock/types.h"

namespace penstock {

/// What a device computes; a model or a setting that wants more is refused when it is loaded.
struct DeviceAbilities {
  bool float32 = true;               // activations and caches; false: of 16 bits alone
  DType numbers = DType::kBFloat16;  // those of 16 bits that it computes in, weights included
  bool encode = true;                // Ops::Encode
  bool delta_rule = true;            // Ops::DeltaRule
  int32_t delta_keys = std::numeric_limits<int32_t>::max();  // of its heads, at most
  int32_t head_dim = std::numeric_limits<int32_t>::max();    // at most
  int32_t head_dim_unit = 1;                                 // of which it is a multiple
  int32_t experts = std::numeric_limits<int32_t>::max();     // at most
  int32_t top_experts = std::numeric_limits<int32_t>::max();
  int32_t expert_groups = std::numeric_limits<int32_t>::max();
};

}  // namespace penstock
