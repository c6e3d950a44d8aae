#include "bench/compare.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kResamples = 4000;
constexpr int kLeastRounds = 3;  // for an interval

// Metrics of one scenario, by name: a value per round.
using Rounds = std::map<std::string, std::map<int, double>>;
using Scenarios = std::vector<std::pair<std::string, Rounds>>;

bool IsShown(const std::string& metric) {
  for (const char* last : {"_per_second", ".p50", ".p99", "gops", "gbs"}) {
    if (absl::EndsWith(metric, last)) return true;
  }
  return false;
}

bool HigherIsBetter(const std::string& metric) { return !absl::StrContains(metric, "_seconds."); }

void TakeNumbers(const Json& value, const std::string& name, int round, Rounds& out) {
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items())
      TakeNumbers(inner, name.empty() ? key : absl::StrCat(name, ".", key), round, out);
  } else if (value.is_number() && IsShown(name) && value.get<double>() > 0) {
    out[name][round] = value.get<double>();
  }
}

/// Runs of `target` (all where it is empty).
Scenarios TakeRuns(const Json& file, const std::string& target) {
  Scenarios out;
  for (const Json& run : file["runs"]) {
    if (!run.is_object() || !run.contains("scenario") || !run.contains("result")) continue;
    if (!target.empty() && run.value("target", "") != target) continue;
    const std::string name = run["scenario"].value("name", "");
    const auto same = [&](const auto& one) { return one.first == name; };
    auto found = std::find_if(out.begin(), out.end(), same);
    if (found == out.end()) found = out.insert(out.end(), {name, Rounds()});
    TakeNumbers(run["result"], "", run.value("round", 0), found->second);
  }
  return out;
}

double MedianOf(std::vector<double> values) {
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle] + *std::max_element(values.begin(), values.begin() + middle)) / 2;
}

void Bootstrap(const std::vector<double>& ratios, MetricRatio& out) {
  out.low = 1;
  out.high = 0;
  if (ratios.size() < kLeastRounds) return;
  std::mt19937_64 random(1);
  std::vector<double> medians;
  for (int i = 0; i < kResamples; ++i) {
    std::vector<double> drawn;
    for (size_t j = 0; j < ratios.size(); ++j) drawn.push_back(ratios[random() % ratios.size()]);
    medians.push_back(MedianOf(std::move(drawn)));
  }
  std::sort(medians.begin(), medians.end());
  out.low = medians[kResamples * 25 / 1000];
  out.high = medians[kResamples * 975 / 1000];
}

void CompareScenario(const std::string& name, const Rounds& a, const Rounds& b, Comparison& out) {
  for (const auto& [metric, a_rounds] : a) {
    const auto found = b.find(metric);
    if (found == b.end()) continue;
    std::vector<double> a_values, b_values, ratios;
    for (const auto& [round, value] : a_rounds) {
      const auto other = found->second.find(round);
      if (other == found->second.end()) continue;
      a_values.push_back(value);
      b_values.push_back(other->second);
      ratios.push_back(other->second / value);
    }
    if (ratios.empty()) continue;
    MetricRatio ratio{name, metric, MedianOf(a_values), MedianOf(b_values), MedianOf(ratios)};
    ratio.higher_is_better = HigherIsBetter(metric);
    ratio.rounds = static_cast<int>(ratios.size());
    Bootstrap(ratios, ratio);
    out.ratios.push_back(std::move(ratio));
  }
}

absl::StatusOr<std::pair<std::string, std::string>> TwoTargets(const Json& file,
                                                               const std::string& name) {
  std::vector<std::string> targets;
  for (const Json& run : file["runs"]) {
    const std::string target = run.is_object() ? run.value("target", "") : "";
    if (std::find(targets.begin(), targets.end(), target) == targets.end())
      targets.push_back(target);
  }
  if (targets.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": has ", targets.size(),
                     " targets, expected two, or a second file to compare with"));
  }
  return std::make_pair(targets[0], targets[1]);
}

}  // namespace

absl::StatusOr<Comparison> CompareResults(const Json& a, const std::string& a_name, const Json* b,
                                          const std::string& b_name) {
  Comparison out;
  Scenarios left, right;
  if (b == nullptr) {
    auto targets = TwoTargets(a, a_name);
    if (!targets.ok()) return targets.status();
    std::tie(out.a, out.b) = *targets;
    out.interleaved = true;
    left = TakeRuns(a, out.a);
    right = TakeRuns(a, out.b);
  } else {
    if (a["kind"] != (*b)["kind"]) {
      return absl::InvalidArgumentError(absl::StrCat(a_name, " is of kind ", a["kind"].dump(), ", ",
                                                     b_name, " of ", (*b)["kind"].dump()));
    }
    out.a = a_name;
    out.b = b_name;
    left = TakeRuns(a, "");
    right = TakeRuns(*b, "");
  }
  for (const auto& [name, rounds] : left) {
    for (const auto& [other, other_rounds] : right) {
      if (name == other) CompareScenario(name, rounds, other_rounds, out);
    }
  }
  if (out.ratios.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(out.a, " and ", out.b, " have no scenario with a figure in common"));
  }
  return out;
}

std::string ComparisonTable(const Comparison& comparison) {
  std::string out = absl::StrCat("A: ", comparison.a, "\nB: ", comparison.b, "\n");
  absl::StrAppend(
      &out, comparison.interleaved
                ? "measured turn and turn about\n"
                : "not measured turn and turn about: what changed between is in the ratios\n");
  absl::StrAppendFormat(&out, "%-22s %-28s %12s %12s %7s  %-15s\n", "scenario", "figure", "A", "B",
                        "B/A", "95 %");
  for (const MetricRatio& r : comparison.ratios) {
    const bool known = r.low <= r.high;
    const bool differs = known && (r.low > 1 || r.high < 1);
    const bool better = (r.ratio > 1) == r.higher_is_better;
    absl::StrAppendFormat(&out, "%-22s %-28s %12.5g %12.5g %7.3f  %-15s %s\n", r.scenario, r.metric,
                          r.a, r.b, r.ratio,
                          known ? absl::StrFormat("%.3f .. %.3f", r.low, r.high)
                                : absl::StrFormat("%d round%s", r.rounds, r.rounds == 1 ? "" : "s"),
                          differs ? (better ? "B is better" : "A is better") : "");
  }
  return out;
}

Json ComparisonJson(const Comparison& comparison) {
  Json ratios = Json::array();
  for (const MetricRatio& r : comparison.ratios) {
    Json row = {{"scenario", r.scenario},
                {"metric", r.metric},
                {"a", r.a},
                {"b", r.b},
                {"ratio", r.ratio},
                {"rounds", r.rounds},
                {"higher_is_better", r.higher_is_better}};
    if (r.low <= r.high) row["interval_95"] = {r.low, r.high};
    ratios.push_back(std::move(row));
  }
  return {{"a", comparison.a},
          {"b", comparison.b},
          {"interleaved", comparison.interleaved},
          {"ratios", std::move(ratios)}};
}

}  // namespace penstock
