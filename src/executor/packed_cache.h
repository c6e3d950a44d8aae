// Loads a model's weights through a file that keeps them packed: read where it fits, else written
// after packing.
// Owns nothing. Must not know steps or the KV cache.
// Threads: confined to the loading thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/make_backend.h"
#include "base/worker_pool.h"
#include "model/model_config.h"
#include "model/tensor_source.h"
#include "model/weights.h"

namespace penstock {

struct PackedCacheOptions {
  std::string folder;  // for all models
  std::string model;   // directory or file
  std::string form;    // all that decides how weights are packed, but for model and kernels
  std::string build;   // another program may pack otherwise
  WorkerPool* pool = nullptr;
};

struct PackedLoad {
  ModelWeights weights;
  std::string what;   // "read" or "written"; empty: neither
  int64_t bytes = 0;  // of the file
  std::string note;   // why a file was not used or not written; empty: nothing to tell
};

/// `files` are what `source` reads; `backend` opened its device. A file is named after the model's
/// path and `form`, and used where the content of all files, form, kernels and build are those it
/// was written for.
absl::StatusOr<PackedLoad> LoadThroughCache(const PackedCacheOptions& options,
                                            const std::vector<std::string>& files,
                                            const ModelConfig& config, TensorSource& source,
                                            const OpenedBackend& backend,
                                            const LoadProgress& progress);

}  // namespace penstock
