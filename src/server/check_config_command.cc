// penstock check-config: what a start would make of a configuration.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "config/config_diff.h"
#include "config/load_config.h"
#include "metrics/catalogue.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "service/call_fields.h"

namespace penstock {

void AddCheckConfigCommand(CLI::App& app, int& exit_code) {
  struct Options {
    std::string file;
    std::vector<std::string> assignments;
    bool reference = false;
    bool metrics = false;
    bool api = false;
    bool schema = false;
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
  command->add_flag("--metrics", options->metrics, "Print the catalogue of metrics");
  command->add_flag("--api", options->api, "Print every field of the API");
  command->add_flag("--schema", options->schema, "Print the JSON Schema of the file");
  command->callback([options, &exit_code] {
    if (options->reference) {
      std::fputs(ReferenceYaml().c_str(), stdout);
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
    if (!status.ok()) {
      std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
      exit_code = 1;
      return;
    }
    std::printf("%s: ok, %zu model(s)\n",
                options->file.empty() ? "defaults" : options->file.c_str(), config->models.size());
  });
}

}  // namespace penstock
