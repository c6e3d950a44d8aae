#include "bench/scenario.h"

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "config/schema.h"

namespace penstock {
namespace {

ConfigSection Describe(Scenario& s) {
  return {"",
          "",
          {
              {"name", &s.name, ""},
              {"endpoint", &s.endpoint, "", {"completions", "chat"}},
              {"model", &s.model, ""},
              {"requests", &s.requests, "", {}, 1, 1 << 24},
              {"concurrency", &s.concurrency, "", {}, 1, 4096},
              {"prompt_words", &s.prompt_words, "", {}, 1, 1 << 20},
              {"prefix_words", &s.prefix_words, "", {}, 0, 1 << 20},
              {"min_words", &s.min_words, "", {}, 0, 1 << 20},
              {"max_tokens", &s.max_tokens, "", {}, 1, 1 << 20},
              {"stream", &s.stream, ""},
              {"ignore_eos", &s.ignore_eos, ""},
              {"timeout_seconds", &s.timeout_seconds, "", {}, 1, 86400},
          }};
}

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

/// " abc" words: near one token each in the vocabularies of the field.
void AppendWords(std::mt19937_64& random, int32_t count, std::string& out) {
  static constexpr std::string_view kLetters = "etaoinshrdlu";
  for (int32_t i = 0; i < count; ++i) {
    out += ' ';
    for (int j = 0; j < 3; ++j) out += kLetters[random() % kLetters.size()];
  }
}

}  // namespace

absl::Status SetScenarioField(Scenario& scenario, const std::string& key,
                              const std::string& value) {
  const auto number = [&](double& out) {
    char* end = nullptr;
    out = std::strtod(value.c_str(), &end);
    return *end == '\0' && !value.empty() && out >= 0
               ? absl::OkStatus()
               : absl::InvalidArgumentError(
                     absl::StrCat(key, ": expected a number, got '", value, "'"));
  };
  if (key == "rate") return number(scenario.rate);
  if (key == "temperature") return number(scenario.temperature);
  if (key == "seed" || key == "prefix_seed") {
    double seed = 0;
    RETURN_IF_ERROR(number(seed));
    (key == "seed" ? scenario.seed : scenario.prefix_seed) = static_cast<uint64_t>(seed);
    return absl::OkStatus();
  }
  const ConfigSection described = Describe(scenario);
  std::vector<std::string_view> names = {"rate", "temperature", "seed", "prefix_seed"};
  for (const ConfigField& field : described.fields) {
    if (field.name == key) return Annotate(SetField(field, value), key);
    names.push_back(field.name);
  }
  const std::string_view nearest = NearestName(key, names);
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": unknown key",
                   nearest.empty() ? "" : absl::StrCat(", did you mean '", ToAbsl(nearest), "'?")));
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
  std::vector<Scenario> out;
  if (!document.IsSequence()) {
    ASSIGN_OR_RETURN(Scenario scenario, ReadScenario(document, path));
    out.push_back(std::move(scenario));
    return out;
  }
  for (const YAML::Node& node : document) {
    ASSIGN_OR_RETURN(Scenario scenario,
                     ReadScenario(node, absl::StrCat(path, ":", node.Mark().line + 1)));
    out.push_back(std::move(scenario));
  }
  return out;
}

std::string RequestBody(const Scenario& scenario, const std::string& model, int32_t index) {
  std::mt19937_64 prefix_random(scenario.prefix_seed == 0 ? scenario.seed : scenario.prefix_seed);
  std::mt19937_64 random(scenario.seed * 0x9E3779B97F4A7C15ULL + static_cast<uint64_t>(index) + 1);
  int32_t words = scenario.prompt_words;
  if (scenario.min_words > 0 && scenario.min_words < words) {
    words = std::uniform_int_distribution<int32_t>(scenario.min_words, words)(random);
  }
  std::string prompt;
  AppendWords(prefix_random, std::min(scenario.prefix_words, words), prompt);
  AppendWords(random, std::max(0, words - scenario.prefix_words), prompt);
  nlohmann::json body = {{"model", model},
                         {"max_tokens", scenario.max_tokens},
                         {"temperature", scenario.temperature},
                         {"stream", scenario.stream}};
  if (scenario.temperature > 0) body["seed"] = scenario.seed + index;
  if (scenario.ignore_eos) body["ignore_eos"] = true;
  if (scenario.stream) body["stream_options"] = {{"include_usage", true}};
  if (scenario.endpoint == "chat") {
    body["messages"] = {{{"role", "user"}, {"content", prompt}}};
  } else {
    body["prompt"] = prompt;
  }
  return body.dump();
}

}  // namespace penstock
