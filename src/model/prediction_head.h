// A head that a checkpoint ships to predict the token after the next (multi-token prediction,
// DeepSeek-V3, section 2.2): a block that reads the model's hidden state of a position beside the
// embedding of the token after it.
// Owns its weights; shares the model's table and head where the file's are the same. Must not know
// steps, slots or caches.
// Threads: immutable after loading.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "model/model_config.h"
#include "model/tensor_source.h"
#include "model/weights.h"
#include "penstock/backend.h"

namespace penstock {

struct PredictionHead {
  ModelConfig config;                    // the model's, with the one block
  ModelWeights weights;                  // the block, its norm and what is not shared
  const ModelWeights* tables = nullptr;  // whose embedding it reads
  NormWeights embedding_norm;            // [hidden]
  NormWeights state_norm;                // [hidden]
  PackedLinear projection;               // [hidden, 2 hidden]: of both, the embedding first
};

/// NOT_FOUND: the checkpoint ships no such head. UNIMPLEMENTED: it does, and why none can serve.
absl::Status CanPredict(const ModelConfig& config, const TensorSource& source);

/// The first of them; its later ones are not used. `model`, which was loaded from `source`, outlives
/// it. Errors as CanPredict's and LoadWeights'.
absl::StatusOr<std::unique_ptr<PredictionHead>> LoadPredictionHead(const ModelConfig& config,
                                                                   const ModelWeights& model,
                                                                   TensorSource& source,
                                                                   Device& device);

}  // namespace penstock
