// Small models of formula weights, so that tests of the executor need no file of others.
// Owns nothing. Must not know models or batches.
// Threads: value.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "executor/load_model.h"
#include "executor/model_runner.h"
#include "fakes/safetensors_writer.h"

namespace penstock {

/// Sizes that are no multiple of any vector; `extra` are further lines of config.json, each ending
/// in a comma.
inline std::string TinyConfig(const std::string& architecture = "LlamaForCausalLM",
                              const std::string& extra = "") {
  return R"({"architectures": [")" + architecture +
         R"("], "hidden_size": 40, "intermediate_size": 72,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20, "vocab_size": 317,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, )" +
         extra + R"( "rope_theta": 10000.0})";
}

inline std::unique_ptr<LoadedModel> LoadTinyModel(WorkerPool* pool,
                                                  const std::string& config = TinyConfig(),
                                                  int32_t ranks = 1,
                                                  const std::string& device = "cpu") {
  TempDir dir;
  dir.Write("config.json", config);
  LoadOptions load;
  load.model_dir = dir.path();
  load.weights = "formula";
  load.tensor_parallel = ranks;
  load.device = device;
  load.pool = pool;
  auto model = LoadModel(load);
  CHECK(model.ok());
  return *std::move(model);
}

inline RunnerOptions TinyRunnerOptions() {
  RunnerOptions options;
  options.kv_bytes = 16 << 20;
  options.num_slots = 16;
  options.max_len = 256;
  options.max_step_tokens = 128;
  return options;
}

inline std::vector<TokenId> TinyPrompt(int32_t length, uint32_t seed) {
  std::vector<TokenId> ids;
  for (int32_t i = 0; i < length; ++i) {
    seed = seed * 1664525u + 1013904223u;
    ids.push_back(static_cast<TokenId>((seed >> 8) % 317));
  }
  return ids;
}

}  // namespace penstock
