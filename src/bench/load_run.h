// Drives one scenario against a server and measures every request.
// Owns its sockets. Must not know the server's insides.
// Threads: confined to the calling thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/scenario.h"

namespace penstock {

struct Target {
  std::string host = "127.0.0.1";  // numeric
  uint16_t port = 8000;
  std::string api_key;
  int64_t pid = 0;  // of the server, for its CPU time and memory; 0: not measured
};

struct RequestTiming {
  bool ok = false;
  int status = 0;
  double start = 0;  // seconds since the run began: when it was due
  double first = 0;  // the first piece of the answer
  double end = 0;
  std::vector<double> gaps;  // between pieces of a stream
  int64_t prompt_tokens = -1, completion_tokens = -1,
          cached_tokens = -1;  // from usage; -1: not told
};

struct LoadResult {
  std::vector<RequestTiming> requests;
  double seconds = 0;              // first arrival to last end
  double server_cpu_seconds = -1;  // -1: not measured
  int64_t server_rss_bytes = -1;
  std::string first_error;  // of a request that failed
};

absl::StatusOr<LoadResult> RunLoad(const Scenario& scenario, const Target& target);

}  // namespace penstock
