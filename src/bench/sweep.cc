#include "bench/sweep.h"

#include <cmath>

#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int kMostRuns = 24;

}  // namespace

const char* SweepEndName(SweepEnd end) {
  switch (end) {
    case SweepEnd::kFewRequests:
      return "requests";
    case SweepEnd::kBusyGenerator:
      return "generator";
    case SweepEnd::kFound:
      break;
  }
  return "goal";
}

absl::StatusOr<SweepResult> FindHighestRate(
    const SweepOptions& options,
    const std::function<absl::StatusOr<LoadResult>(double rate)>& run) {
  SweepResult out;
  double kept = 0, missed = 0;  // the highest that kept the goal, the lowest that did not
  double rate = options.first_rate;
  for (int i = 0; i < kMostRuns; ++i) {
    ASSIGN_OR_RETURN(LoadResult result, run(rate));
    const auto all = static_cast<double>(result.num_ok + result.num_failed);
    const bool good = static_cast<double>(result.num_good) >= options.attain * all;
    // A generator that cannot keep up says nothing about the server.
    const bool trusted = !result.generator.bottleneck;
    const bool all_at_once = all / rate < result.e2e.Quantile(0.5);
    out.steps.push_back({rate, std::move(result), good && trusted});
    if (good && trusted) {
      kept = std::max(kept, rate);
    } else {
      missed = missed == 0 ? rate : std::min(missed, rate);
    }
    if (good && (!trusted || all_at_once)) {
      out.end = trusted ? SweepEnd::kFewRequests : SweepEnd::kBusyGenerator;
      break;
    }
    if (missed == 0) {
      rate *= 2;
    } else if (kept == 0) {
      rate /= 4;
      if (rate < options.first_rate / 1024) break;
    } else {
      if (missed / kept <= 1 + options.precision) break;
      rate = std::sqrt(kept * missed);
    }
  }
  out.best_rate = kept;
  return out;
}

}  // namespace penstock
