// penstock doctor: whether this machine can serve a configuration, before or while it does.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "config/load_config.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/doctor_checks.h"
#include "server/model_source.h"

namespace penstock {
namespace {

struct DoctorFlags {
  std::string model, config;
  std::vector<std::string> assignments;
  bool json = false;
};

constexpr int kHealthy = 0, kNoConfig = 1, kFaults = 2, kUndecided = 3;

absl::StatusOr<ServerConfig> ConfigOf(const DoctorFlags& flags) {
  absl::StatusOr<ServerConfig> config = ReadConfig(flags.config, flags.assignments);
  if (!config.ok()) return config;
  if (!flags.model.empty()) {
    ModelEntry entry;
    entry.path = flags.model;
    entry.engine = config->engine;
    config->models.insert_or_assign(DefaultModelName(flags.model), std::move(entry));
  }
  if (absl::Status status = ValidateConfig(*config, /*serving=*/false); !status.ok()) return status;
  return config;
}

void Print(const std::vector<Diagnosis>& all, bool json) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Diagnosis& one : all) {
    const std::string finding(NameOf(one.finding));
    if (json) {
      out.push_back({{"check", one.check}, {"finding", finding}, {"text", one.text}});
    } else {
      std::printf("%-8s %-13s %s\n", finding.c_str(), one.check.c_str(), one.text.c_str());
    }
  }
  if (json) {
    std::printf("%s\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
}

int Examine(const DoctorFlags& flags) {
  const absl::StatusOr<ServerConfig> config = ConfigOf(flags);
  std::vector<Diagnosis> all;
  if (config.ok()) {
    all = ExamineAll(*config);
    all.insert(all.begin(), {"config", Finding::kOk,
                             flags.config.empty() ? std::string("defaults") : flags.config});
  } else {
    all = {{"config", Finding::kFault, std::string(Message(config.status()))}};
  }
  Print(all, flags.json);
  if (!config.ok()) return kNoConfig;
  const auto any = [&](Finding finding) {
    return std::any_of(all.begin(), all.end(),
                       [&](const Diagnosis& one) { return one.finding == finding; });
  };
  if (any(Finding::kFault)) return kFaults;
  return any(Finding::kUnknown) ? kUndecided : kHealthy;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command = app.add_subcommand(
      "doctor",
      "Say whether this machine can serve a configuration: certificates, keys, disks, limits, "
      "clocks, processor, memory (exit code 0: yes; 1: bad configuration; 2: no; 3: not known)");
  command->add_option("MODEL", flags->model, "A directory, .gguf file or org/name[@rev]");
  command->add_option("--config", flags->config, "A YAML file, as for serve");
  command->add_option("--set", flags->assignments, "key.path=value, as for serve")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] { exit_code = Examine(*flags); });
}

}  // namespace penstock
