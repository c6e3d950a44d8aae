// libFuzzer target: any bytes as a config.json. Links penstock_model.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/model_config.h"
#include "model/quantization_config.h"
#include "model/rope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto quantization = penstock::ParseQuantizationConfig(text, "fuzz");
  if (quantization.ok()) {
    (void)quantization->SchemeOf("model.layers.11.self_attn.q_proj");
  }
  const auto config = penstock::ParseModelConfig(text, "fuzz");
  if (!config.ok()) return 0;
  // What is accepted is fit for use.
  if (config->layers.empty()) std::abort();
  for (const penstock::LayerConfig& layer : config->layers) {
    if (layer.recurrent) continue;
    if (layer.heads.num_kv_heads < 1 || layer.heads.num_heads % layer.heads.num_kv_heads != 0) {
      std::abort();
    }
  }
  for (const penstock::RopeConfig& rope : config->ropes) penstock::RopeTable(rope, 2);
  return 0;
}
