// penstock bench serve: the load generator.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "bench/load_run.h"
#include "bench/report.h"
#include "config/load_config.h"
#include "server/commands.h"

namespace penstock {
namespace {

struct BenchOptions {
  std::string file, url = "127.0.0.1:8000", output, api_key;
  std::vector<std::string> assignments;
  int64_t pid = 0;
};

absl::Status RunBench(const BenchOptions& options) {
  std::vector<Scenario> scenarios(1);
  if (!options.file.empty()) {
    absl::StatusOr<std::vector<Scenario>> loaded = LoadScenarios(options.file);
    if (!loaded.ok()) return loaded.status();
    scenarios = *std::move(loaded);
  }
  for (Scenario& scenario : scenarios) {
    for (const std::string& assignment : options.assignments) {
      const size_t equals = assignment.find('=');
      if (equals == assignment.npos)
        return absl::InvalidArgumentError(absl::StrCat(assignment, ": expected key=value"));
      const absl::Status set =
          SetScenarioField(scenario, assignment.substr(0, equals), assignment.substr(equals + 1));
      if (!set.ok()) return set;
    }
  }
  const absl::StatusOr<HostPort> address = ParseHostPort(options.url);
  if (!address.ok()) return address.status();
  const Target target{address->host == "localhost" ? "127.0.0.1" : address->host, address->port,
                      options.api_key, options.pid};
  std::string json;
  std::fputs(SummaryHeader().c_str(), stdout);
  for (const Scenario& scenario : scenarios) {
    absl::StatusOr<LoadResult> result = RunLoad(scenario, target);
    if (!result.ok()) return result.status();
    const LoadSummary summary = Summarize(*result);
    std::fputs(SummaryRow(scenario, summary).c_str(), stdout);
    if (!result->first_error.empty())
      std::printf("  first failure: %s\n", result->first_error.c_str());
    std::fflush(stdout);
    absl::StrAppend(&json, json.empty() ? "[" : ",\n",
                    SummaryJson(scenario, summary, PENSTOCK_VERSION "+" PENSTOCK_COMMIT));
  }
  if (options.output.empty()) return absl::OkStatus();
  std::ofstream out(options.output);
  out << json << "]\n";
  return out.flush() ? absl::OkStatus()
                     : absl::UnavailableError(absl::StrCat(options.output, ": cannot be written"));
}

}  // namespace

void AddBenchCommand(CLI::App& app, int& exit_code) {
  CLI::App* bench = app.add_subcommand("bench", "Measure");
  bench->require_subcommand(1);
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = bench->add_subcommand(
      "serve", "Send a load to an OpenAI-compatible server and measure the answers");
  command->add_option("SCENARIO", options->file,
                      "A YAML file of benchmarks/serving; none: the defaults");
  command->add_option("--target", options->url, "host:port of the server (127.0.0.1:8000)");
  command->add_option("--set", options->assignments, "key=value over every scenario of the file")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--output", options->output, "A file for the figures as JSON");
  command->add_option("--api-key", options->api_key, "The server's key");
  command->add_option("--pid", options->pid, "The server's process, for its CPU time and memory");
  command->callback([options, &exit_code] {
    const absl::Status status = RunBench(*options);
    if (status.ok()) return;
    std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
    exit_code = 1;
  });
}

}  // namespace penstock
