// Drives one scenario against a server and measures every request.
// Owns its sockets; what has ended is folded into distributions, so memory is bounded by what is in
// flight. Must not know the server's insides.
// Threads: confined to the calling thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "bench/distribution.h"
#include "bench/scenario.h"
#include "bench/target.h"
#include "bench/trace_reader.h"

namespace penstock {

/// What the load generator itself did. It is the bottleneck where its thread had no time left, where
/// requests of an open loop left late, or where its waits for a processor are half and more of a
/// request's time and of the run; also where some requests could not leave at all.
struct GeneratorUse {
  double cpu_share = 0;  // of one core, over the run
  double cpu_us_per_piece = 0;
  double late_p99 = 0;  // seconds from when a request was due to when it left
  // Waited for a processor when something had come, in the mean: by so much what came was read late.
  // The shares are of the mean time between two pieces of a stream, and of a request. All -1 where
  // the kernel does not tell; that of a piece also where none followed another.
  double wait_us = -1;
  double wait_of_piece = -1, wait_of_request = -1;
  bool bottleneck = false;
  bool blurs_latencies = false;  // a tenth of a piece's time and more is the wait
};

/// The waits of a run for a processor, and what they are held to.
struct GeneratorWaits {
  double seconds = -1;     // of all; -1: not known
  int64_t wakes = 0;       // of its thread
  double per_piece = 0;    // seconds between two pieces of a stream, the mean; 0: there were none
  double per_request = 0;  // seconds of a request, the mean
};

/// Judges a run of `seconds` in which the generator's thread took `cpu_seconds` and `pieces` of text
/// came; `lateness` has the seconds of each request of an open loop (empty: a closed one).
GeneratorUse JudgeGenerator(double cpu_seconds, double seconds, int64_t pieces,
                            const Distribution& lateness, const GeneratorWaits& waits);

/// The kind of requests that could not leave for want of descriptors or ports of this process.
inline constexpr char kGeneratorFault[] = "generator";

struct LoadResult {
  int64_t num_ok = 0, num_failed = 0;
  int64_t num_good = 0;     // of num_ok: within the goal
  int64_t asked_again = 0;  // sent twice, as a kept connection ended while they left; counted once
  std::map<std::string, int64_t> failures;  // by kind
  std::string first_failure;                // in words
  double seconds = 0;                       // first arrival to last end
  bool out_of_time = false;  // ended by timeout_seconds: what was in flight failed as timeout, and
                             // the rest was not sent
  // Of what succeeded, from when a request was due, so that a server that stalls is charged for
  // those who waited to be sent (coordinated omission).
  Distribution ttft;  // to the first piece of text; to the end, where there is none
  Distribution itl;   // between pieces of text
  Distribution tpot;  // (end - first) / (tokens - 1), per request
  Distribution e2e;
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0, pieces = 0;
  ProcessUse server;  // CPU seconds of the run, memory at its end
  GeneratorUse generator;
  TraceFaults trace_faults;
};

struct RunProgress {
  int64_t done = 0, failed = 0, total = 0, in_flight = 0, pieces = 0;
  double seconds = 0;
};

/// A request that fails is counted by kind: generator, connect, tls, reset (nothing was heard), cut (in
/// the middle), timeout, not_http, and what AnswerReader names. A server that hangs is a result as well: see
/// out_of_time. UNAVAILABLE: nobody answers at all. `progress` (or null) is called a few times a
/// second.
absl::StatusOr<LoadResult> RunLoad(const Scenario& scenario, const Target& target,
                                   const std::function<void(const RunProgress&)>& progress = {});

}  // namespace penstock
