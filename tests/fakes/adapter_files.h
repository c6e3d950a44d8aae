// PEFT adapters for tests: any modules of the tiny model, drawn from a seed.
// Owns nothing. Must not know what is done with them.
// Threads: value.
#pragma once

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fakes/safetensors_writer.h"

namespace penstock {

/// Sizes of the tiny model's linear layers: [out, in].
inline const std::map<std::string, std::pair<int64_t, int64_t>>& TinyModules() {
  static const std::map<std::string, std::pair<int64_t, int64_t>> modules = {
      {"self_attn.q_proj", {120, 40}}, {"self_attn.k_proj", {40, 40}},
      {"self_attn.v_proj", {40, 40}},  {"self_attn.o_proj", {40, 120}},
      {"mlp.gate_proj", {72, 40}},     {"mlp.up_proj", {72, 40}},
      {"mlp.down_proj", {40, 72}}};
  return modules;
}

struct AdapterToWrite {
  int64_t rank = 4;
  std::string config;  // further keys, each ending in a comma
  std::vector<std::string> modules = {"self_attn.q_proj", "mlp.down_proj"};
  int32_t layers = 2;
  uint32_t seed = 1;
  std::vector<TensorToWrite> more = {};
};

/// Both factors of a module that is adapted as a linear layer [n, k], drawn from a normal
/// distribution.
inline std::vector<TensorToWrite> FactorsOf(const std::string& module, int64_t n, int64_t k,
                                            int64_t rank, std::mt19937& random) {
  const auto factor = [&](const std::string& which, int64_t rows, int64_t cols) {
    std::vector<float> values(rows * cols);
    std::normal_distribution<float> draw(0, 0.3f);
    for (float& value : values) value = draw(random);
    return TensorToWrite{
        "base_model.model." + module + which, "F32", {rows, cols}, BytesOf(values)};
  };
  return {factor(".lora_A.weight", rank, k), factor(".lora_B.weight", n, rank)};
}

inline std::vector<TensorToWrite> AdapterTensors(const AdapterToWrite& adapter) {
  std::mt19937 random(adapter.seed);
  std::vector<TensorToWrite> tensors;
  for (int32_t layer = 0; layer < adapter.layers; ++layer) {
    for (const std::string& module : adapter.modules) {
      const auto [n, k] = TinyModules().at(module);
      const std::string name = "model.layers." + std::to_string(layer) + "." + module;
      for (TensorToWrite& factor : FactorsOf(name, n, k, adapter.rank, random))
        tensors.push_back(std::move(factor));
    }
  }
  tensors.insert(tensors.end(), adapter.more.begin(), adapter.more.end());
  return tensors;
}

inline std::string AdapterJson(const AdapterToWrite& adapter) {
  std::string targets;
  for (const std::string& module : adapter.modules)
    targets += (targets.empty() ? "\"" : ", \"") + module + "\"";
  return "{" + adapter.config + R"("peft_type": "LORA", "lora_alpha": 8, "r": )" +
         std::to_string(adapter.rank) + R"(, "target_modules": [)" + targets + "]}";
}

inline void WriteAdapter(const TempDir& dir, const AdapterToWrite& adapter) {
  dir.Write("adapter_config.json", AdapterJson(adapter));
  dir.Write("adapter_model.safetensors", SafetensorsFile(AdapterTensors(adapter)));
}

}  // namespace penstock
