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

struct ScenarioRuns {
  std::string name;
  Rounds rounds;
  int num_runs = 0;
  std::map<std::string, int> beware;  // RunWarning::kind, and of how many runs
};
using Scenarios = std::vector<ScenarioRuns>;

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
  } else if (value.is_number() && IsShown(name)) {
    const auto number = value.get<double>();
    // A latency of 0 is that of nobody; a throughput of 0 is one.
    if (number > 0 || (number == 0 && absl::EndsWith(name, "_per_second")))
      out[name][round] = number;
  }
}

/// Of a sweep, what every step of it tells: the best rate.
void TakeBestRate(const Json& run, Rounds& out) {
  const auto best = run.find("best_rate");
  if (best != run.end() && best->is_number()) out["best_rate"][0] = best->get<double>();
}

void TakeWarnings(const Json& run, bool sweep, ScenarioRuns& out) {
  const Json& result = run["result"];
  // What a sweep's rates above the best one met is no fault of the best one.
  if (sweep && !(run.contains("kept") && run["kept"] == true)) return;
  ++out.num_runs;
  const Json::json_pointer busy("/generator/bottleneck");
  if ((result.contains(busy) && result[busy] == true) ||
      (sweep && run.contains("ended_by") && run["ended_by"] == "generator"))
    ++out.beware["generator"];
  const auto failed = result.find("failed");
  if (failed != result.end() && failed->is_number() && failed->get<double>() > 0)
    ++out.beware["failures"];
  if (result.contains("out_of_time") && result["out_of_time"] == true) ++out.beware["out_of_time"];
}

/// Runs of `target` (all where it is empty); `by_target`: those of each target apart.
Scenarios TakeRuns(const Json& file, const std::string& target, bool by_target) {
  Scenarios out;
  const bool sweep = file["kind"] == "sweep";
  for (const Json& run : file["runs"]) {
    if (!run.contains("scenario")) continue;
    const std::string of = run.value("target", "");
    if (!target.empty() && of != target) continue;
    const std::string name =
        absl::StrCat(run["scenario"].value("name", ""), by_target ? ", " + of : "");
    const auto same = [&](const ScenarioRuns& one) { return one.name == name; };
    auto found = std::find_if(out.begin(), out.end(), same);
    if (found == out.end()) found = out.insert(out.end(), {name, {}, 0, {}});
    TakeWarnings(run, sweep, *found);
    if (sweep) {
      TakeBestRate(run, found->rounds);
    } else {
      TakeNumbers(run["result"], "", run.value("round", 0), found->rounds);
    }
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

/// `values` are of one round each, and not none.
MetricRatio RatioOf(const std::string& scenario, const std::string& metric,
                    const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] > 0 || b[i] > 0) ratios.push_back(b[i] / a[i]);
  }
  MetricRatio out{scenario, metric, MedianOf(a), MedianOf(b), std::nan(""), 1, 0};
  if (!ratios.empty()) out.ratio = MedianOf(ratios);
  out.higher_is_better = HigherIsBetter(metric);
  out.rounds = static_cast<int>(a.size());
  Bootstrap(ratios, out);
  return out;
}

void CompareScenario(const ScenarioRuns& a, const ScenarioRuns& b, Comparison& out) {
  const size_t had = out.ratios.size();
  for (const auto& [metric, a_rounds] : a.rounds) {
    const auto found = b.rounds.find(metric);
    if (found == b.rounds.end()) continue;
    std::vector<double> a_values, b_values;
    for (const auto& [round, value] : a_rounds) {
      const auto other = found->second.find(round);
      if (other == found->second.end()) continue;
      a_values.push_back(value);
      b_values.push_back(other->second);
    }
    if (!a_values.empty()) out.ratios.push_back(RatioOf(a.name, metric, a_values, b_values));
  }
  if (out.ratios.size() == had) return;
  for (const auto& [side, runs] : {std::pair("A", &a), {"B", &b}}) {
    for (const auto& [kind, count] : runs->beware)
      out.warnings.push_back({side, runs->name, kind, count, runs->num_runs});
  }
}

std::vector<std::string> TargetNames(const Json& file) {
  std::vector<std::string> targets;
  for (const Json& run : file["runs"]) {
    const std::string target = run.value("target", "");
    if (std::find(targets.begin(), targets.end(), target) == targets.end())
      targets.push_back(target);
  }
  return targets;
}

const char* WarningText(const std::string& kind) {
  if (kind == "generator") return "the load generator was the bottleneck";
  if (kind == "failures") return "requests failed";
  return "timeout_seconds ended the run";
}

absl::StatusOr<std::pair<std::string, std::string>> TwoTargets(const Json& file,
                                                               const std::string& name) {
  const std::vector<std::string> targets = TargetNames(file);
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
    out.interleaved = a["kind"] == "serve";
    left = TakeRuns(a, out.a, false);
    right = TakeRuns(a, out.b, false);
  } else {
    if (a["kind"] != (*b)["kind"]) {
      return absl::InvalidArgumentError(absl::StrCat(a_name, " is of kind ", a["kind"].dump(), ", ",
                                                     b_name, " of ", (*b)["kind"].dump()));
    }
    out.a = a_name;
    out.b = b_name;
    const bool by_target = TargetNames(a).size() > 1 || TargetNames(*b).size() > 1;
    left = TakeRuns(a, "", by_target);
    right = TakeRuns(*b, "", by_target);
  }
  for (const ScenarioRuns& one : left) {
    for (const ScenarioRuns& other : right) {
      if (one.name == other.name) CompareScenario(one, other, out);
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
    absl::StrAppendFormat(&out, "%-22s %-28s %12.5g %12.5g %7s  %-15s %s\n", r.scenario, r.metric,
                          r.a, r.b, std::isnan(r.ratio) ? "-" : absl::StrFormat("%.3f", r.ratio),
                          known ? absl::StrFormat("%.3f .. %.3f", r.low, r.high)
                                : absl::StrFormat("%d round%s", r.rounds, r.rounds == 1 ? "" : "s"),
                          differs ? (better ? "B is better" : "A is better") : "");
  }
  for (const RunWarning& warning : comparison.warnings) {
    absl::StrAppend(&out, "beware: ", warning.side, ", ", warning.scenario, ": in ", warning.runs,
                    " of ", warning.of, " runs ", WarningText(warning.kind), "\n");
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
  Json warnings = Json::array();
  for (const RunWarning& warning : comparison.warnings) {
    warnings.push_back({{"of", warning.side},
                        {"scenario", warning.scenario},
                        {"kind", warning.kind},
                        {"runs", warning.runs},
                        {"of_runs", warning.of}});
  }
  return {{"a", comparison.a},
          {"b", comparison.b},
          {"interleaved", comparison.interleaved},
          {"ratios", std::move(ratios)},
          {"warnings", std::move(warnings)}};
}

}  // namespace penstock
