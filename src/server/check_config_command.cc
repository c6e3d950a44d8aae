// penstock check-config: what a start would make of a configuration.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "chain/chain_set.h"
#include "config/config_diff.h"
#include "config/load_config.h"
#include "metrics/catalogue.h"
#include "server/admin_call.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/grafana_boards.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

/// What a reload would change in the server behind `socket`. 0: it would be taken; 1: refused; 4:
/// there is no such server.
int PrintDifference(const ServerConfig& config, const std::string& socket) {
  const absl::StatusOr<std::string> answer = CallAdmin(socket, "GET", "/admin/v1/config", "");
  if (!answer.ok()) {
    std::fprintf(stderr, "penstock: %s\n", std::string(answer.status().message()).c_str());
    return answer.status().code() == absl::StatusCode::kUnavailable ? 4 : 1;
  }
  const auto json = nlohmann::json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("values")) {
    std::fprintf(stderr, "penstock: the server's answer is no configuration\n");
    return 4;
  }
  const auto running = json["values"].get<std::map<std::string, std::string>>();
  const std::vector<ConfigChange> changes = DifferentValues(running, ConfigValues(config));
  for (const ConfigChange& change : changes) {
    std::printf("%s: %s -> %s%s\n", change.path.c_str(), change.before.c_str(),
                change.after.c_str(), change.live ? "" : " (needs a restart)");
  }
  if (changes.empty()) std::printf("no difference\n");
  return CheckLive(changes).ok() ? 0 : 1;
}

}  // namespace

void AddCheckConfigCommand(CLI::App& app, int& exit_code) {
  struct Options {
    std::string file;
    std::vector<std::string> assignments;
    bool reference = false;
    bool metrics = false;
    bool api = false;
    bool configuration = false;
    bool schema = false;
    std::string running;
    std::string dashboards;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "check-config", "Read a configuration as serve would and say what is wrong with it");
  command->add_option("FILE,--config", options->file, "The YAML file");
  command->add_option("--set", options->assignments, "key.path=value, as for serve")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_flag("--reference", options->reference,
                    "Print every key with its default and meaning");
  command->add_flag("--configuration", options->configuration,
                    "Print the same as a page of Markdown");
  command->add_flag("--metrics", options->metrics, "Print the catalogue of metrics");
  command->add_flag("--api", options->api, "Print every field of the API");
  command->add_option("--dashboards", options->dashboards,
                      "Write Grafana's dashboards into this folder (deploy/grafana has them)");
  command->add_option("--against-running", options->running,
                      "server.admin.unix of a server: print what a reload would change there");
  command->add_flag("--schema", options->schema, "Print the JSON Schema of the file");
  command->callback([options, &exit_code] {
    if (options->reference) {
      std::fputs(ReferenceYaml().c_str(), stdout);
      return;
    }
    if (options->configuration) {
      std::fputs(ConfigMarkdown().c_str(), stdout);
      return;
    }
    if (!options->dashboards.empty()) {
      const absl::Status written = WriteGrafanaBoards(options->dashboards);
      if (written.ok()) return;
      std::fprintf(stderr, "penstock: %s\n", std::string(written.message()).c_str());
      exit_code = 1;
      return;
    }
    if (options->metrics) {
      std::fputs(CatalogueMarkdown().c_str(), stdout);
      return;
    }
    if (options->api) {
      std::fputs(CallFieldsMarkdown().c_str(), stdout);
      return;
    }
    if (options->schema) {
      std::fputs(ConfigJsonSchema().c_str(), stdout);
      return;
    }
    absl::StatusOr<ServerConfig> config = ReadConfig(options->file, options->assignments);
    absl::Status status =
        config.ok() ? ValidateConfig(*config, /*serving=*/false) : config.status();
    if (status.ok()) status = ChainSet::Make(*config, nullptr, nullptr).status();
    if (!status.ok()) {
      std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
      exit_code = 1;
      return;
    }
    if (!options->running.empty()) {
      exit_code = PrintDifference(*config, options->running);
      return;
    }
    std::printf("%s: ok, %zu model(s)\n",
                options->file.empty() ? "defaults" : options->file.c_str(), config->models.size());
  });
}

}  // namespace penstock
