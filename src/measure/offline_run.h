// What an engine does without a wire: many requests at once, until all are done.
// Owns nothing but the sinks while it runs. Must not know text, tokenizers or devices.
// Threads: waits on the calling thread; sinks run on the engine's.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "base/step_progress.h"
#include "penstock/engine.h"

namespace penstock {

struct OfflineOptions {
  int32_t requests = 64;
  int32_t prompt_tokens = 128, output_tokens = 64;
  int32_t shared_tokens = 0;  // of the prompt, the same in all
  uint64_t seed = 1;
};

struct OfflineResult {
  int64_t num_ok = 0, num_failed = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  double seconds = 0;
  double first_seconds = 0;  // until the first token of all
};

/// INVALID_ARGUMENT where the lengths do not fit the engine's context. `progress` is told a few times
/// a second.
absl::StatusOr<OfflineResult> RunOffline(Engine& engine, const OfflineOptions& options,
                                         const StepProgress& progress = {});

/// So many, each with prompts of its own. `show` gets each that ended, also where a later one fails.
/// Errors as of RunOffline; INTERNAL after a round of which requests failed.
absl::Status RunOfflineRounds(
    Engine& engine, const OfflineOptions& options, int rounds,
    const std::function<void(int round, const OfflineResult& result)>& show,
    const StepProgress& progress = {});

}  // namespace penstock
