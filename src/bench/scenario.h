// What a load test sends: how many requests, how fast, how long.
// Owns its strings. Must not know sockets.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

struct Scenario {
  std::string name = "default";
  std::string endpoint = "completions";  // completions | chat
  std::string model;                     // empty: the first that /v1/models lists
  int32_t requests = 64;
  int32_t concurrency = 1;     // closed loop: requests kept in flight; ignored with rate > 0
  double rate = 0;             // open loop: mean arrivals per second (Poisson)
  int32_t prompt_words = 128;  // " abc" words, different in every request
  int32_t prefix_words = 0;    // of these, shared by all requests
  int32_t max_tokens = 64;
  int32_t min_words = 0;  // > 0: prompt_words is drawn from [min_words, prompt_words]
  bool stream = true;
  bool ignore_eos = true;
  double temperature = 0;
  uint64_t seed = 1;              // of prompts and arrivals
  uint64_t prefix_seed = 0;       // of the shared prefix; 0: seed
  int32_t timeout_seconds = 300;  // of the whole run
};

/// A YAML file: one scenario as a mapping, or a list of them; the keys are the fields above.
/// Unknown keys are errors.
absl::StatusOr<std::vector<Scenario>> LoadScenarios(const std::string& path);

/// `key=value` as on the command line.
absl::Status SetScenarioField(Scenario& scenario, const std::string& key, const std::string& value);

/// The JSON body of request number `index`.
std::string RequestBody(const Scenario& scenario, const std::string& model, int32_t index);

}  // namespace penstock
