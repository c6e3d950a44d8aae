// The parts in which a config.json is read: layers, rotary embeddings, mixtures of experts.
// Owns nothing. Must not know weights or devices.
// Threads: value.
#pragma once

#include <string>
#include <string_view>

#include "model/config_reader.h"
#include "model/families.h"
#include "model/model_config.h"

namespace penstock {

inline constexpr int32_t kMaxSize = 1 << 24;
inline constexpr int32_t kMaxLayers = 4096;

/// Whether `architecture` is an encoder's; then the whole config, but for the pooling.
bool IsEncoder(std::string_view architecture);
absl::Status ReadEncoder(ConfigReader& config, std::string_view architecture, ModelConfig& out);

/// modules.json of sentence-transformers in `dir`, where there is one.
absl::Status ReadPooling(const std::string& dir, ModelConfig& out);

/// out.layers with windows, heads and which of out.ropes turns them; problems stay in `config`.
void ReadLayers(ConfigReader& config, const Family& family, const HeadShape& heads,
                ModelConfig& out);

/// out.ropes: [0] of all layers, [1] of those with a window where they differ.
absl::Status ReadRopes(ConfigReader& config, std::string_view what, const Family& family,
                       int32_t head_dim, ModelConfig& out);

/// out.experts and which layers have a mixture.
void ReadExperts(ConfigReader& config, ExpertsRule rule, ModelConfig& out);

/// out.latent, where the family has latent attention; the heads become those of the latents.
void ReadLatent(ConfigReader& config, ModelConfig& out);

}  // namespace penstock
