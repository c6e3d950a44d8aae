// How well a model predicts a text, and how far its predictions are from a reference's.
// Owns the figures. Must not know tokenizers, files or how a model came to be.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/step_progress.h"
#include "executor/load_model.h"
#include "penstock/types.h"

namespace penstock {

struct TextQuality {
  int64_t num_predictions = 0;
  double perplexity = 0;            // exp of the mean cross-entropy
  double reference_perplexity = 0;  // all from here on 0 without a reference
  double mean_kl = 0;               // of KL(reference || model), in nats
  double p99_kl = 0;
  double same_top1 = 0;  // share of positions with the same most likely token
};

/// A model and the types of its activations and KV cache.
struct ModelUnderTest {
  LoadedModel* model = nullptr;
  DType dtype = DType::kFloat32;
  DType kv_dtype = DType::kFloat32;
};

/// Cuts `ids` into windows of `window` tokens, each computed on its own; within one the second half
/// is predicted from all before. `reference.model` may be null. INVALID_ARGUMENT where the
/// vocabularies differ or there is not one window. `progress` counts windows.
absl::StatusOr<TextQuality> MeasureTextQuality(const ModelUnderTest& tested,
                                               const ModelUnderTest& reference,
                                               absl::Span<const TokenId> ids, int32_t window,
                                               const StepProgress& progress = {});

}  // namespace penstock
