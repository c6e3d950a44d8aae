#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "model/config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

/// What layer_types says of each layer; empty where the file does not say.
enum class LayerType : uint8_t { kFull, kSliding, kLinear };

std::vector<LayerType> ReadLayerTypes(ConfigReader& config, const Family& family,
                                      size_t num_layers) {
  std::vector<LayerType> types;
  const Json* list = config.Find("layer_types");
  if (list == nullptr) return types;
  if (!list->is_array() || list->size() != num_layers) {
    config.Fail("layer_types",
                absl::StrCat("expected one entry for each of ", num_layers, " layers"));
    return types;
  }
  for (const Json& type : *list) {
    if (type == "sliding_attention") {
      types.push_back(LayerType::kSliding);
    } else if (type == "full_attention") {
      types.push_back(LayerType::kFull);
    } else if (type == "linear_attention" && family.delta) {
      types.push_back(LayerType::kLinear);
    } else {
      config.Fail("layer_types", absl::StrCat("entry ", types.size(), " is ", type.dump(),
                                              ", expected full_attention or sliding_attention",
                                              family.delta ? " or linear_attention" : ""));
      return {};
    }
  }
  return types;
}

/// sliding_window_pattern: n (every n-th layer is full), or one letter a layer, L with a window, G
/// without.
std::vector<LayerType> TypesByPattern(ConfigReader& config, int32_t pattern, size_t num_layers) {
  std::vector<LayerType> types(num_layers, LayerType::kFull);
  const Json* own = config.Find("sliding_window_pattern");
  if (own == nullptr) own = config.Find("_sliding_window_pattern");
  if (own != nullptr && own->is_string()) {
    const auto& letters = own->get_ref<const std::string&>();
    if (letters.empty() || letters.find_first_not_of("LG") != std::string::npos) {
      config.Fail("sliding_window_pattern", "expected a number or letters L and G");
      return types;
    }
    for (size_t i = 0; i < num_layers; ++i) {
      if (letters[i % letters.size()] == 'L') types[i] = LayerType::kSliding;
    }
    return types;
  }
  if (own != nullptr) pattern = config.Int("sliding_window_pattern", pattern, 0, kMaxLayers);
  for (size_t i = 0; pattern > 0 && i < num_layers; ++i) {
    if ((i + 1) % pattern != 0) types[i] = LayerType::kSliding;
  }
  return types;
}

void SetWindows(ConfigReader& config, const Family& family, ModelConfig& out) {
  const std::vector<LayerType> types = ReadLayerTypes(config, family, out.layers.size());
  if (family.windows == WindowRule::kNone) return;
  if (family.windows == WindowRule::kQwen && !config.Bool("use_sliding_window", false)) return;
  const int32_t window = config.Int("sliding_window", 0, 0, kMaxSize);
  const auto num_layers = static_cast<int32_t>(out.layers.size());
  if (!types.empty() || family.windows == WindowRule::kPattern) {
    const std::vector<LayerType> by_layer =
        types.empty() ? TypesByPattern(config, family.window_pattern, out.layers.size()) : types;
    for (int32_t i = 0; i < num_layers; ++i) {
      if (by_layer[i] == LayerType::kSliding) out.layers[i].window = window;
    }
    return;
  }
  const int32_t first =
      family.windows == WindowRule::kAll ? 0 : config.Int("max_window_layers", 0, 0, kMaxLayers);
  for (int32_t i = first; i < num_layers; ++i) out.layers[i].window = window;
}

void SetRecurrent(ConfigReader& config, const Family& family, ModelConfig& out) {
  if (!family.delta) return;
  const std::vector<LayerType> types = ReadLayerTypes(config, family, out.layers.size());
  const int32_t interval = config.Int("full_attention_interval", 4, 1, kMaxLayers);
  for (size_t i = 0; i < out.layers.size(); ++i) {
    out.layers[i].recurrent =
        types.empty() ? (i + 1) % interval != 0 : types[i] == LayerType::kLinear;
  }
  DeltaShape& d = out.delta;
  d.num_key_heads = config.Int("linear_num_key_heads", 16, 1, 4096);
  d.num_value_heads = config.Int("linear_num_value_heads", 32, 1, 4096);
  d.key_dim = config.Int("linear_key_head_dim", 128, 1, 4096);
  d.value_dim = config.Int("linear_value_head_dim", 128, 1, 4096);
  d.conv_width = config.Int("linear_conv_kernel_dim", 4, 2, 16);
  if (d.num_value_heads % d.num_key_heads != 0) {
    config.Fail("linear_num_key_heads",
                absl::StrCat(d.num_key_heads, " does not divide linear_num_value_heads ",
                             d.num_value_heads));
  }
}

void SetRopes(ConfigReader& config, const Family& family, ModelConfig& out) {
  const Json* list = config.Find("no_rope_layers");
  if (family.rope == RopeRule::kNoRopeLayers && list != nullptr && !list->empty()) {
    if (!list->is_array() || list->size() != out.layers.size()) {
      config.Fail("no_rope_layers",
                  absl::StrCat("expected one entry for each of ", out.layers.size(), " layers"));
      return;
    }
  }
  const int32_t interval = config.Int("no_rope_layer_interval", 4, 1, kMaxLayers);
  bool any_window = false;
  for (const LayerConfig& layer : out.layers) any_window |= layer.window > 0;
  for (size_t i = 0; i < out.layers.size(); ++i) {
    LayerConfig& layer = out.layers[i];
    if (family.local_rope && layer.window > 0) layer.rope = 1;
    switch (family.rope) {
      case RopeRule::kAll:
        break;
      case RopeRule::kNone:
        layer.rope = -1;
        break;
      case RopeRule::kWindowed:
        if (any_window && layer.window == 0) layer.rope = -1;
        break;
      case RopeRule::kNoRopeLayers: {
        const bool turns = list != nullptr && !list->empty()
                               ? (*list)[i].is_number() && (*list)[i] != 0
                               : (i + 1) % interval != 0;
        if (!turns) layer.rope = -1;
        break;
      }
    }
  }
}

/// Gemma 4's full layers: per_layer_config {"<layer>": {head_dim, num_key_value_heads}}, or
/// global_head_dim and num_global_key_value_heads.
void SetPerLayerHeads(ConfigReader& config, ModelConfig& out) {
  const bool keys_are_values = config.Bool("attention_k_eq_v", false);
  const Json* own = config.Find("per_layer_config");
  for (size_t i = 0; i < out.layers.size(); ++i) {
    LayerConfig& layer = out.layers[i];
    if (layer.window > 0) continue;
    layer.values_are_keys = keys_are_values;
    if (own == nullptr) {
      layer.heads.head_dim = config.Int("global_head_dim", 512, 2, 4096);
      if (keys_are_values) {
        layer.heads.num_kv_heads =
            config.Int("num_global_key_value_heads", layer.heads.num_kv_heads, 1, kMaxSize);
      }
      continue;
    }
    const auto it = own->is_object() ? own->find(absl::StrCat(i)) : own->end();
    if (it == own->end() || !it->is_object()) continue;
    ConfigReader reader(*it, absl::StrCat("per_layer_config.", i));
    layer.heads.head_dim = reader.Int("head_dim", layer.heads.head_dim, 2, 4096);
    layer.heads.num_kv_heads =
        reader.Int("num_key_value_heads", layer.heads.num_kv_heads, 1, kMaxSize);
    if (!reader.status().ok()) config.Fail("per_layer_config", reader.status().message().data());
  }
}

}  // namespace

void ReadLayers(ConfigReader& config, const Family& family, const HeadShape& heads,
                ModelConfig& out) {
  out.layers.resize(config.Int("num_hidden_layers", std::nullopt, 1, kMaxLayers));
  for (LayerConfig& layer : out.layers) layer.heads = heads;
  SetWindows(config, family, out);
  SetRecurrent(config, family, out);
  SetRopes(config, family, out);
  if (family.per_layer_heads) SetPerLayerHeads(config, out);
  for (const LayerConfig& layer : out.layers) {
    if (layer.heads.num_heads % layer.heads.num_kv_heads != 0) {
      config.Fail("num_key_value_heads",
                  absl::StrCat(layer.heads.num_kv_heads, " does not divide num_attention_heads ",
                               layer.heads.num_heads));
    }
    if (layer.heads.head_dim % 2 != 0) config.Fail("head_dim", "expected an even number");
  }
}

void ReadLatent(ConfigReader& config, ModelConfig& out) {
  LatentConfig& latent = out.latent;
  latent.q_rank = config.Int("q_lora_rank", 0, 0, kMaxSize);
  latent.kv_rank = config.Int("kv_lora_rank", std::nullopt, 1, kMaxSize);
  latent.nope_dim = config.Int("qk_nope_head_dim", std::nullopt, 1, 4096);
  latent.rope_dim = config.Int("qk_rope_head_dim", std::nullopt, 2, 4096);
  latent.value_dim = config.Int("v_head_dim", std::nullopt, 1, 4096);
  if (latent.rope_dim % 2 != 0) config.Fail("qk_rope_head_dim", "expected an even number");
  for (LayerConfig& layer : out.layers) {
    layer.heads.num_kv_heads = 1;
    layer.heads.head_dim = latent.kv_rank + latent.rope_dim;
  }
  out.attention_scale = 1.0f / std::sqrt(static_cast<float>(latent.nope_dim + latent.rope_dim));
  const RopeConfig& rope = out.ropes[0];
  if (rope.type != RopeType::kDefault && rope.mscale_all_dim > 0 && rope.factor > 1) {
    const double mscale = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1;
    out.attention_scale *= static_cast<float>(mscale * mscale);
  }
}

}  // namespace penstock
