// The highest rate of arrivals at which a server keeps a latency goal.
// Owns nothing. Must not know the server's insides.
// Threads: confined to the calling thread.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/load_run.h"

namespace penstock {

struct SweepOptions {
  double attain = 0.99;     // share of all requests that must be good
  double precision = 0.05;  // the answer is known within this share
  double first_rate = 1;
};

struct SweepStep {
  double rate = 0;
  LoadResult result;
  bool kept = false;
};

/// Why a sweep went no further.
enum class SweepEnd {
  kFound,          // rates just above the best one, or all that were tried, miss the goal
  kFewRequests,    // at the best rate all were in flight at once: more of them could show more
  kBusyGenerator,  // what lies above the best rate cannot be measured from here
};
/// "goal", "requests" or "generator", as results have it.
const char* SweepEndName(SweepEnd end);

struct SweepResult {
  double best_rate = 0;  // 0: not even the lowest rate that was tried
  SweepEnd end = SweepEnd::kFound;
  std::vector<SweepStep> steps;
};

/// Doubles the rate until the goal is missed, then halves the interval. Ends too where all requests
/// have left before half of them are answered: from there on a higher rate is the same load. `run`
/// measures one rate; each of its failures is the sweep's.
absl::StatusOr<SweepResult> FindHighestRate(
    const SweepOptions& options, const std::function<absl::StatusOr<LoadResult>(double rate)>& run);

}  // namespace penstock
