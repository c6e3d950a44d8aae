// Which linear layers of a block adapters change by two products each: what is loaded is what memory
// is kept for.
// Owns nothing. Must not know files or devices.
// Threads: constants.
#pragma once

#include "model/adapter_weights.h"
#include "model/layer_linears.h"

namespace penstock {

struct AdaptedMember {
  LayerLinear LayerLinears::*linear;
  AdaptedLinear AdaptedLayer::*adapted;
};

inline constexpr AdaptedMember kAdaptedMembers[] = {
    {&LayerLinears::qkv, &AdaptedLayer::qkv},
    {&LayerLinears::o, &AdaptedLayer::o},
    {&LayerLinears::gate_up, &AdaptedLayer::gate_up},
    {&LayerLinears::down, &AdaptedLayer::down},
    {&LayerLinears::z, &AdaptedLayer::z},
    {&LayerLinears::ba, &AdaptedLayer::ba},
    {&LayerLinears::q_a, &AdaptedLayer::q_a},
    {&LayerLinears::q_nope, &AdaptedLayer::q_nope},
    {&LayerLinears::q_rope, &AdaptedLayer::q_rope},
    {&LayerLinears::kv_a, &AdaptedLayer::kv_a},
    {&LayerLinears::router, &AdaptedLayer::router}};

}  // namespace penstock
