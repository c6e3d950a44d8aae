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

struct SweepResult {
  double best_rate = 0;      // 0: not even the lowest rate that was tried
  bool all_at_once = false;  // at best_rate: only more requests could show whether more is kept
  std::vector<SweepStep> steps;
};

/// Doubles the rate until the goal is missed, then halves the interval. Ends too where all requests
/// have left before half of them are answered: from there on a higher rate is the same load. `run`
/// measures one rate; each of its failures is the sweep's.
absl::StatusOr<SweepResult> FindHighestRate(
    const SweepOptions& options, const std::function<absl::StatusOr<LoadResult>(double rate)>& run);

}  // namespace penstock
