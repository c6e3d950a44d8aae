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
  double a = 0, b = 0;       // medians over rounds
  double ratio = 1;          // b / a, the median over rounds
  double low = 0, high = 0;  // 95 % of it, by the bootstrap over rounds; rounds < 3: low > high
  bool higher_is_better = false;
  int rounds = 0;
};

struct Comparison {
  std::string a, b;          // what is compared
  bool interleaved = false;  // in one run, turn and turn about
  std::vector<MetricRatio> ratios;
};

/// Two files, or one with two targets. INVALID_ARGUMENT where they are of different kinds or have
/// no scenario in common.
absl::StatusOr<Comparison> CompareResults(const nlohmann::ordered_json& a,
                                          const std::string& a_name,
                                          const nlohmann::ordered_json* b,
                                          const std::string& b_name);
std::string ComparisonTable(const Comparison& comparison);
nlohmann::ordered_json ComparisonJson(const Comparison& comparison);

}  // namespace penstock
