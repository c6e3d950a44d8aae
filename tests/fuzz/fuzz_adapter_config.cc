// libFuzzer target: any bytes as an adapter_config.json. Links penstock_model.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/adapter_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = penstock::AdapterConfig::Parse(text, "fuzz");
  if (!config.ok()) return 0;
  // What is accepted is fit for use.
  for (const std::string_view module : {"model.layers.11.self_attn.q_proj", "mlp", ""}) {
    (void)config->Targets(module, 11);
    const int32_t rank = config->RankOf(module);
    if (rank < 1 || rank > penstock::kMaxAdapterRank) std::abort();
    if (!std::isfinite(config->ScalingOf(module))) std::abort();
  }
  return 0;
}
