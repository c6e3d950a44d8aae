// Two sets of results beside each other: ratios, and how sure they are.
// Owns nothing. Must not know how the results came to be.
// Threads: value.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

struct MetricRatio {
  std::string scenario, metric;
  double a = 0, b = 0;  // medians over rounds
  // b / a, the median over rounds; infinite where a is 0 and b is not, NaN where both always are 0.
  double ratio = 1;
  double low = 0, high = 0;  // 95 % of it, by the bootstrap over rounds; rounds < 3: low > high
  bool higher_is_better = false;
  int rounds = 0;
};

/// Why figures of a scenario may not be the server's, or not of all that was asked.
struct RunWarning {
  std::string side;  // "A" or "B"
  std::string scenario;
  std::string kind;  // generator (the bottleneck) | failures | out_of_time
  int runs = 0, of = 0;
};

struct Comparison {
  std::string a, b;          // what is compared
  bool interleaved = false;  // in one run, turn and turn about
  std::vector<MetricRatio> ratios;
  std::vector<RunWarning> warnings;
};

/// Two files as ReadResultFile gives them, or one with two targets. Of sweeps the rates that they
/// found are compared. Files with several targets are compared target by target. INVALID_ARGUMENT
/// where they are of different kinds or have no scenario in common.
absl::StatusOr<Comparison> CompareResults(const nlohmann::ordered_json& a,
                                          const std::string& a_name,
                                          const nlohmann::ordered_json* b,
                                          const std::string& b_name);
std::string ComparisonTable(const Comparison& comparison);
/// A ratio or an end of an interval that is no number is null.
nlohmann::ordered_json ComparisonJson(const Comparison& comparison);

}  // namespace penstock
