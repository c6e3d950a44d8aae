// libFuzzer target: any bytes as a config.json. Links penstock_model.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/model_config.h"
#include "model/rope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config =
      penstock::ParseModelConfig({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!config.ok()) return 0;
  // What is accepted is fit for use.
  if (config->layers.empty() || config->num_heads % config->num_kv_heads != 0) std::abort();
  for (const penstock::RopeConfig& rope : config->ropes) penstock::RopeTable(rope, 2);
  return 0;
}
