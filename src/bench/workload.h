// The requests of a scenario, one after the other: when each is due and what it says.
// Owns random state and an open trace; makes a body when it is asked for. Must not know sockets.
// Threads: confined to its owner.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <random>
#include <string>

#include "absl/status/statusor.h"
#include "bench/scenario.h"
#include "bench/trace_reader.h"

namespace penstock {

struct PlannedRequest {
  int64_t index = 0;
  double due = 0;  // seconds since the run began; open loop
  int32_t prompt_words = 0, max_tokens = 0;
  std::vector<uint64_t> blocks;  // of a trace
};

class Workload {
 public:
  static absl::StatusOr<std::unique_ptr<Workload>> Open(const Scenario& scenario);
  ~Workload();

  /// The next arrival; none: all have been taken. Of a closed loop `due` is 0.
  std::optional<PlannedRequest> Next();
  /// Its JSON body; `messages` (chat): what was said before, to which the question is added.
  std::string Body(const PlannedRequest& request, const std::string& model,
                   nlohmann::json* messages) const;
  /// Seconds until who was answered asks again.
  double ThinkTime();
  const TraceFaults* trace_faults() const { return trace_ ? &trace_->faults() : nullptr; }

 private:
  explicit Workload(const Scenario& scenario);
  std::string Prompt(const PlannedRequest& request) const;

  const Scenario scenario_;
  std::unique_ptr<TraceReader> trace_;
  std::mt19937_64 arrivals_, thoughts_;
  int64_t next_ = 0;
  double at_ = 0;
};

}  // namespace penstock
