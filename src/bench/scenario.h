// What a load test sends: how many requests, when, how long, and within which times they should be
// answered.
// Owns its strings. Must not know sockets.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/schema.h"

namespace penstock {

/// Seconds that a good request takes at most; 0: any.
struct LatencyGoal {
  double ttft = 0, tpot = 0, e2e = 0;

  bool any() const { return ttft > 0 || tpot > 0 || e2e > 0; }
};

struct Scenario {
  std::string name = "default";
  std::string endpoint = "completions";  // completions | chat
  std::string model;                     // empty: the first that /v1/models lists
  int32_t requests = 64;
  int32_t concurrency = 1;  // closed loop: requests kept in flight, or conversations held at a time
  // Open loop: requests leave at their time, whatever is still unanswered.
  double rate = 0;         // > 0: mean arrivals per second
  double rate_end = 0;     // > 0: the rate goes from `rate` to this in a straight line
  double burstiness = 1;   // shape of the gaps' gamma distribution: 1 is Poisson, less is burstier
  int32_t burst = 1;       // so many arrive at once
  std::string trace;       // a file of arrivals and lengths, in place of rate and lengths
  double trace_speed = 1;  // so many times faster than it was recorded
  int32_t prompt_words = 128;  // " abc" words, different in every request
  int32_t min_words = 0;       // > 0: prompt_words is drawn from [min_words, prompt_words]
  int32_t prefix_words = 0;    // of these, shared by all requests
  int32_t turns = 1;           // > 1: conversations of so many questions (endpoint: chat)
  double think_seconds = 0;    // mean time between an answer and the next question
  int32_t max_tokens = 64;
  bool stream = true;
  bool ignore_eos = true;
  double temperature = 0;
  uint64_t seed = 1;              // of prompts and arrivals
  uint64_t prefix_seed = 0;       // of the shared prefix; 0: seed
  int32_t timeout_seconds = 300;  // of the whole run
  double request_timeout = 0;     // seconds until a request counts as hung; 0: the run's
  int32_t warmup = 0;             // further requests before, which are not counted
  LatencyGoal goal;

  bool open_loop() const { return rate > 0 || !trace.empty(); }
};

/// The scenario's keys, for files, flags and results alike.
ConfigSection DescribeScenario(Scenario& scenario);

/// A YAML file: one scenario as a mapping, or a list of them; the keys are the fields above.
/// Unknown keys and repeated names are errors. A trace is found beside the file.
absl::StatusOr<std::vector<Scenario>> LoadScenarios(const std::string& path);

/// `key=value` as on the command line.
absl::Status SetScenarioField(Scenario& scenario, const std::string& key, const std::string& value);

/// Keys that contradict each other, by name.
absl::Status CheckScenario(const Scenario& scenario);

/// INVALID_ARGUMENT where two have one name: their results could not be told apart.
absl::Status CheckNames(const std::vector<Scenario>& scenarios);

}  // namespace penstock
