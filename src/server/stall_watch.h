// Whether an engine with work still makes steps.
// Owns the time since when each engine had work. Must not know what is done about a stall.
// Threads: confined to one thread.
#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "penstock/engine.h"

namespace penstock {

class StallWatch {
 public:
  /// How long `engine` has had work without a step, as far as calls of this show; zero where it has
  /// none. `load` is as of `now`, of the engine's clock.
  absl::Duration Observe(const std::string& engine, const EngineLoad& load, absl::Time now) {
    const auto [it, fresh] = busy_since_.try_emplace(engine, now);
    absl::Time& since = it->second;
    if (load.num_running + load.num_waiting == 0) since = now;
    since = std::max(since, load.last_step);
    return std::max(absl::ZeroDuration(), now - since);
  }

 private:
  std::map<std::string, absl::Time> busy_since_;
};

}  // namespace penstock
