#include "bench/scenario.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

absl::StatusOr<Scenario> ReadScenario(const YAML::Node& node, const std::string& where) {
  if (!node.IsMap())
    return absl::InvalidArgumentError(where + ": expected a mapping, or a list of mappings");
  Scenario scenario;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar() || !entry.second.IsScalar()) {
      return absl::InvalidArgumentError(where + ": expected key: value lines");
    }
    RETURN_IF_ERROR(
        Annotate(SetScenarioField(scenario, entry.first.Scalar(), entry.second.Scalar()), where));
  }
  return scenario;
}

absl::Status SetSeed(uint64_t& seed, const std::string& key, const std::string& value) {
  if (absl::SimpleAtoi(value, &seed)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": expected a whole number from 0, got '", value, "'"));
}

}  // namespace

ConfigSection DescribeScenario(Scenario& s) {
  return {"",
          "",
          {
              {"name", &s.name, "what the results are called"},
              {"endpoint", &s.endpoint, "which route is asked", {"completions", "chat"}},
              {"model", &s.model, "as the server calls it; empty: the first that it lists"},
              {"requests", &s.requests, "how many in all", {}, 1, 1 << 30},
              {"concurrency", &s.concurrency, "kept in flight where rate is 0", {}, 1, 16384},
              {"rate", &s.rate, "mean arrivals per second; 0: as answers come"},
              {"rate_end", &s.rate_end, "the rate of the last request; 0: as the first"},
              {"burstiness", &s.burstiness, "1: Poisson; less: in clusters; more: evener"},
              {"burst", &s.burst, "so many arrive at once", {}, 1, 16384},
              {"trace", &s.trace, "arrivals and lengths as recorded: CSV or JSON lines"},
              {"trace_speed", &s.trace_speed, "so many times faster than recorded"},
              {"prompt_words", &s.prompt_words, "words of a prompt", {}, 1, 1 << 20},
              {"min_words",
               &s.min_words,
               "drawn from here to prompt_words; 0: all alike",
               {},
               0,
               1 << 20},
              {"prefix_words", &s.prefix_words, "of these, shared by all", {}, 0, 1 << 20},
              {"turns", &s.turns, "questions of a conversation (chat)", {}, 1, 1000},
              {"think_seconds", &s.think_seconds, "mean time between answer and next question"},
              {"max_tokens", &s.max_tokens, "of an answer", {}, 1, 1 << 20},
              {"stream", &s.stream, "answers come in pieces"},
              {"ignore_eos", &s.ignore_eos, "answers are as long as max_tokens"},
              {"temperature", &s.temperature, "0: greedy"},
              {"timeout_seconds", &s.timeout_seconds, "of the whole run", {}, 1, 604800},
              {"request_timeout", &s.request_timeout, "seconds until a request counts as hung"},
              {"warmup", &s.warmup, "requests before, which are not counted", {}, 0, 1 << 20},
              {"goal_ttft", &s.goal.ttft, "seconds to a good request's first token; 0: any"},
              {"goal_tpot", &s.goal.tpot, "seconds per further token of a good request"},
              {"goal_e2e", &s.goal.e2e, "seconds to a good request's end"},
          }};
}

absl::Status SetScenarioField(Scenario& scenario, const std::string& key,
                              const std::string& value) {
  if (key == "seed") return SetSeed(scenario.seed, key, value);
  if (key == "prefix_seed") return SetSeed(scenario.prefix_seed, key, value);
  const ConfigSection described = DescribeScenario(scenario);
  std::vector<std::string_view> names = {"seed", "prefix_seed"};
  for (const ConfigField& field : described.fields) {
    names.push_back(field.name);
    if (field.name != key) continue;
    const auto number = std::get_if<double*>(&field.ref);
    if (number == nullptr) return Annotate(SetField(field, value), key);
    if (!absl::SimpleAtod(value, *number) || !(std::isfinite(**number) && **number >= 0))
      return absl::InvalidArgumentError(
          absl::StrCat(key, ": expected a number from 0, got '", value, "'"));
    return absl::OkStatus();
  }
  const std::string_view nearest = NearestName(key, names);
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": unknown key",
                   nearest.empty() ? "" : absl::StrCat(", did you mean '", ToAbsl(nearest), "'?")));
}

absl::Status CheckScenario(const Scenario& s) {
  const auto wrong = [&](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(s.name, ": ", ToAbsl(what)));
  };
  if (s.burstiness <= 0) return wrong("burstiness: expected a number over 0");
  if (s.trace_speed <= 0) return wrong("trace_speed: expected a number over 0");
  if (!s.trace.empty() && s.rate > 0) return wrong("rate: a trace has its own times");
  if (s.rate_end > 0 && s.rate <= 0) return wrong("rate_end: expected a rate to begin with");
  if (s.burst > 1 && s.rate <= 0) return wrong("burst: expected a rate");
  if (s.turns > 1 && s.endpoint != "chat") return wrong("turns: expected endpoint: chat");
  if (s.turns > 1 && s.open_loop())
    return wrong("turns: who converses waits for answers, so there is no rate or trace");
  if (s.think_seconds > 0 && s.turns == 1) return wrong("think_seconds: expected turns over 1");
  return absl::OkStatus();
}

absl::Status CheckNames(const std::vector<Scenario>& scenarios) {
  std::set<std::string> names;
  for (const Scenario& scenario : scenarios) {
    if (!names.insert(scenario.name).second)
      return absl::InvalidArgumentError(absl::StrCat(
          "name: '", scenario.name, "' is that of two scenarios, expected one of each"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Scenario>> LoadScenarios(const std::string& path) {
  YAML::Node document;
  try {
    document = YAML::LoadFile(path);
  } catch (const YAML::BadFile&) {
    return absl::NotFoundError(path + ": cannot be read");
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":", e.mark.line + 1, ": ", e.msg));
  }
  std::vector<YAML::Node> nodes;
  if (document.IsSequence()) {
    for (const YAML::Node& node : document) nodes.push_back(node);
  } else {
    nodes.push_back(document);
  }
  std::vector<Scenario> out;
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(Scenario scenario,
                     ReadScenario(node, absl::StrCat(path, ":", node.Mark().line + 1)));
    if (!scenario.trace.empty()) {
      scenario.trace = (std::filesystem::path(path).parent_path() / scenario.trace).string();
    }
    RETURN_IF_ERROR(Annotate(CheckScenario(scenario), path));
    out.push_back(std::move(scenario));
  }
  if (out.empty()) return absl::InvalidArgumentError(path + ": no scenario in it");
  RETURN_IF_ERROR(Annotate(CheckNames(out), path));
  return out;
}

}  // namespace penstock
