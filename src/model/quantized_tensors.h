// Finds a linear layer's quantised tensors in a checkpoint, checks that they fit together and makes
// the reader of its form.
// Owns nothing; readers share the mapping. Must not know what a layer is for.
// Threads: confined to the loading thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backend/quantized_rows.h"
#include "format/safetensors.h"
#include "model/quantization_config.h"

namespace penstock {

/// Null where the file holds `layer` as plain numbers, or not at all. `shape` and `expert` are
/// those of TensorSource::FindLinear.
absl::StatusOr<std::shared_ptr<const QuantizedRows>> FindQuantized(
    const std::shared_ptr<const Safetensors>& files, const QuantizationConfig& config,
    const std::string& layer, absl::Span<const int64_t> shape, int64_t expert);

}  // namespace penstock
