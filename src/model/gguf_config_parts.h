// Parts of GgufConfigJson: each puts what some keys say into a config.json.
// Owns nothing. Must not know tokenizers or devices.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "model/gguf_architecture.h"
#include "model/gguf_keys.h"

namespace penstock {

/// Mixtures of experts: counts, sizes and how they are chosen.
void PutGgufExperts(GgufKeys& keys, const GgufArchitecture& arch, nlohmann::json& out);
/// Multi-head latent attention: heads' parts and ranks, in place of plain heads' sizes.
void PutGgufLatent(GgufKeys& keys, nlohmann::json& out);
/// Layers with a recurrent state: which they are, and their heads.
void PutGgufDelta(GgufKeys& keys, nlohmann::json& out);
/// Gemma 4: layers without a window have heads of their own. Expects layer_types.
void PutGgufPerLayerHeads(GgufKeys& keys, nlohmann::json& out);
/// Rotary frequencies: scaling by one number, or by tensors of factors.
void PutGgufRope(GgufKeys& keys, const GgufArchitecture& arch, nlohmann::json& out);

}  // namespace penstock
