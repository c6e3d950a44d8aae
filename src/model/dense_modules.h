// The dense layers of a sentence-transformers model, over what was pooled of a text.
// Owns their weights, on the host: they are small and see one vector a text.
// Must not know steps or devices.
// Threads: immutable.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/model_config.h"

namespace penstock {

struct DenseModule {
  DenseConfig config;
  std::vector<float> weight;  // [out_size, in_size]
  std::vector<float> bias;    // [out_size], or empty
};

/// Of `dir`/<folder>/model.safetensors of every layer of `config`.
absl::StatusOr<std::vector<DenseModule>> LoadDenseModules(const std::string& dir,
                                                          const ModelConfig& config);

/// What the layers make of `pooled`, one after the other.
std::vector<float> ApplyDenseModules(const std::vector<DenseModule>& modules,
                                     std::vector<float> pooled);

}  // namespace penstock
