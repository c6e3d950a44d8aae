// Whether a device can compute a model, and in which types: asked before weights are read and before
// memory is taken.
// Owns nothing. Must not know backends.
// Threads: thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "backend/device_abilities.h"
#include "model/model_config.h"

namespace penstock {

/// UNIMPLEMENTED, with the operation or size that the device lacks.
absl::Status CheckDevice(const ModelConfig& config, const DeviceAbilities& abilities,
                         const std::string& device);

/// INVALID_ARGUMENT where the device does not compute in such activations over such a cache.
absl::Status CheckDTypes(DType activations, DType cache, const DeviceAbilities& abilities,
                         const std::string& device);

}  // namespace penstock
