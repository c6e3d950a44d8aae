// A link whose phases are functions of a Lua script: request, prompt, delta, response and log.
// Owns as many states as text workers run it at once. Must not know the other links.
// Threads: thread-safe.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "chain/link.h"

namespace penstock {

/// INVALID_ARGUMENT with Lua's message where the script cannot be read or run. A file that changes is
/// taken from then on; one that cannot be, leaves the old script and is counted as an error.
absl::StatusOr<std::unique_ptr<ChainLink>> MakeLuaLink(const std::string& name,
                                                       const GuardEntry& settings);

/// The error of a link that denies with an HTTP status: 400, 403, 404, 408, 429, 500, 501 or 503; any
/// other is a 403.
absl::StatusCode CodeOfDenial(int status);

}  // namespace penstock
