// How long a request would wait for its first step, from what an engine says of its queue.
// Owns nothing. Must not know requests.
// Threads: thread-safe.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "penstock/engine.h"

namespace penstock {

/// Of a new request of this priority: those before it, at the rate at which the engine has lately
/// begun requests or read prompts, whichever takes longer. Zero where nobody waits; infinite never:
/// zero also where no rate is known yet. Where tenants take turns within a priority, those of another
/// tenant are before it only as far as its own go; `tenant` empty: all are.
absl::Duration PredictedWait(const EngineLoad& load, int32_t priority, std::string_view tenant);

/// RESOURCE_EXHAUSTED with the wait as Retry-After where it is more than `most`.
absl::Status CheckWait(absl::Duration wait, absl::Duration most);

}  // namespace penstock
