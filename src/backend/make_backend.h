// Opens a device by its name in the configuration.
// Owns nothing. The one place that knows which backends were built. Must not know models or
// batches.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

/// `device`: auto | cpu | cuda:N. The pool outlives the device. `note` gets what an operator should
/// know, if anything.
absl::StatusOr<std::unique_ptr<Device>> MakeBackend(const std::string& device, WorkerPool* pool,
                                                    std::string& note);

}  // namespace penstock
