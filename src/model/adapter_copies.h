// Copies of embedding and head that training software saves beside their factors: they change
// nothing where they are the model's own, and only then may they be passed over.
// Owns nothing. Must not know what factors are for.
// Threads: confined to the loading thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "model/adapter_file.h"
#include "model/model_config.h"
#include "model/tensor_source.h"

namespace penstock {

/// Opens the model's own tensors once more.
using OpenBase = std::function<absl::StatusOr<std::unique_ptr<TensorSource>>()>;

enum class TokenTable { kEmbedding, kHead };

/// OK where tensor `name` of `file` is that table of the model's: its numbers, as the type of the
/// copy rounds them. Errors name both.
absl::Status CheckCopy(AdapterFile& file, const std::string& name, TokenTable which,
                       const ModelConfig& config, TensorSource& base);

}  // namespace penstock
