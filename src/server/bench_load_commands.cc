// penstock bench serve and sweep: loads on a server.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/machine.h"
#include "base/status_macros.h"
#include "bench/load_run.h"
#include "bench/summary.h"
#include "bench/sweep.h"
#include "server/bench_command.h"
#include "server/progress_line.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

struct LoadFlags {
  std::string file, output, api_key, ca_file;
  std::vector<std::string> targets = {"127.0.0.1:8000"}, assignments;
  std::vector<int64_t> pids;
  int rounds = 1;
  bool allow_busy_generator = false, quiet = false;
  SweepOptions sweep;
};

absl::StatusOr<std::vector<Scenario>> ScenariosOf(const LoadFlags& flags) {
  std::vector<Scenario> scenarios(1);
  if (!flags.file.empty()) {
    ASSIGN_OR_RETURN(scenarios, LoadScenarios(flags.file));
  }
  for (Scenario& scenario : scenarios) {
    for (const std::string& assignment : flags.assignments) {
      const size_t equals = assignment.find('=');
      if (equals == assignment.npos)
        return absl::InvalidArgumentError(absl::StrCat(assignment, ": expected key=value"));
      RETURN_IF_ERROR(
          SetScenarioField(scenario, assignment.substr(0, equals), assignment.substr(equals + 1)));
    }
    RETURN_IF_ERROR(CheckScenario(scenario));
  }
  RETURN_IF_ERROR(CheckNames(scenarios));
  return scenarios;
}

absl::StatusOr<std::vector<Target>> TargetsOf(const LoadFlags& flags) {
  std::vector<Target> targets;
  if (flags.pids.size() > flags.targets.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--pid: ", flags.pids.size(), " for ",
                                                   flags.targets.size(),
                                                   " targets, expected one of each at most"));
  }
  for (size_t i = 0; i < flags.targets.size(); ++i) {
    ASSIGN_OR_RETURN(Target target, ParseTarget(flags.targets[i]));
    target.api_key = flags.api_key;
    target.ca_file = flags.ca_file;
    if (i < flags.pids.size()) {
      target.pid = flags.pids[i];
      if (UseOfProcess(target.pid).cpu_seconds < 0)
        return absl::InvalidArgumentError(
            absl::StrCat("--pid: no process ", target.pid, " on this machine"));
    }
    for (const Target& other : targets) {
      if (other.name() == target.name())
        return absl::InvalidArgumentError(absl::StrCat("--target: ", target.name(), " twice"));
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

absl::StatusOr<LoadResult> MeasureLoad(const Scenario& scenario, const Target& target,
                                       const LoadFlags& flags) {
  const ProgressLine line(scenario.name, flags.quiet);
  return RunLoad(scenario, target, [&](const RunProgress& p) {
    const double rate = p.seconds > 0 ? static_cast<double>(p.pieces) / p.seconds : 0;
    line.Show(p.done, p.total,
              absl::StrFormat(", %d in flight, %.0f pieces/s%s", p.in_flight, rate,
                              p.failed > 0 ? absl::StrCat(", ", p.failed, " failed") : ""));
  });
}

absl::Status BusyGenerator() {
  return absl::FailedPreconditionError(
      "the load generator was the bottleneck: these figures are not the server's; run it "
      "elsewhere, "
      "at a lower rate, or beside nothing else (serve --allow-busy-generator takes them as they "
      "are)");
}

/// Adds each run that ended to `runs`, also where a later one fails.
absl::Status ServeEach(const std::vector<Scenario>& scenarios, const std::vector<Target>& targets,
                       const LoadFlags& flags, Json& runs) {
  bool busy = false;
  std::string unanswered, cut;
  for (const Scenario& scenario : scenarios) {
    for (int round = 0; round < flags.rounds; ++round) {
      for (size_t i = 0; i < targets.size(); ++i) {
        // Who comes first changes with every round.
        const Target& target = targets[round % 2 == 0 ? i : targets.size() - 1 - i];
        Scenario one = scenario;
        one.seed += static_cast<uint64_t>(round);  // both targets of a round get the same prompts
        ASSIGN_OR_RETURN(const LoadResult result, MeasureLoad(one, target, flags));
        const std::string name =
            targets.size() == 1 ? scenario.name : absl::StrCat(scenario.name, " ", target.name());
        std::fputs((SummaryRow(name, result) + SummaryNotes(result)).c_str(), stdout);
        std::fflush(stdout);
        busy = busy || result.generator.bottleneck;
        if (result.num_ok == 0) unanswered = absl::StrCat(name, ": ", result.first_failure);
        if (result.out_of_time) cut = absl::StrCat(name, ", of ", one.timeout_seconds, " s");
        runs.push_back(RunJson(one, target.name(), round, result));
      }
    }
  }
  if (!unanswered.empty())
    return absl::FailedPreconditionError("no request succeeded in " + unanswered);
  if (!cut.empty()) return absl::FailedPreconditionError("timeout_seconds ended the run " + cut);
  return busy && !flags.allow_busy_generator ? BusyGenerator() : absl::OkStatus();
}

absl::Status ServeLoads(const LoadFlags& flags) {
  RaiseFileLimit();
  ASSIGN_OR_RETURN(const std::vector<Scenario> scenarios, ScenariosOf(flags));
  ASSIGN_OR_RETURN(const std::vector<Target> targets, TargetsOf(flags));
  std::fputs(SummaryHeader().c_str(), stdout);
  Json runs = Json::array();
  const absl::Status status = ServeEach(scenarios, targets, flags, runs);
  if (!runs.empty()) RETURN_IF_ERROR(KeepResults(flags.output, "serve", std::move(runs)));
  return status;
}

absl::Status SweepOne(const Scenario& scenario, const Target& target, const LoadFlags& flags,
                      Json& runs) {
  if (!scenario.goal.any())
    return absl::InvalidArgumentError(
        scenario.name + ": no goal to keep; set goal_ttft, goal_tpot or goal_e2e (seconds)");
  if (!scenario.trace.empty() || scenario.turns > 1)
    return absl::InvalidArgumentError(scenario.name +
                                      ": a sweep sets the rate, expected no trace and no turns");
  SweepOptions options = flags.sweep;
  if (scenario.rate > 0) options.first_rate = scenario.rate;
  const auto run = [&](double rate) -> absl::StatusOr<LoadResult> {
    Scenario one = scenario;
    one.rate = rate;
    one.rate_end = 0;
    one.seed += runs.size();  // never the same prompts, which would be cached
    ASSIGN_OR_RETURN(LoadResult result, MeasureLoad(one, target, flags));
    std::fputs(SummaryRow(absl::StrFormat("%s @%.2f/s", scenario.name, rate), result).c_str(),
               stdout);
    std::fputs(SummaryNotes(result).c_str(), stdout);
    std::fflush(stdout);
    runs.push_back(RunJson(one, target.name(), static_cast<int>(runs.size()), result));
    if (result.out_of_time) {
      return absl::DeadlineExceededError(
          absl::StrFormat("%s @%.2f/s: timeout_seconds ended the run, of %d s", scenario.name, rate,
                          one.timeout_seconds));
    }
    return result;
  };
  ASSIGN_OR_RETURN(const SweepResult found, FindHighestRate(options, run));
  if (found.best_rate > 0) {
    std::printf("%s: %.2f requests/s keep the goal for %.1f %% of requests\n",
                scenario.name.c_str(), found.best_rate, 100 * options.attain);
  }
  if (found.end == SweepEnd::kFewRequests)
    std::printf(
        "  all %d requests were in flight at once then: take more of them to learn whether more is "
        "kept\n",
        scenario.requests);
  for (size_t i = 0; i < found.steps.size(); ++i) {
    Json& row = runs[runs.size() - found.steps.size() + i];
    row["kept"] = found.steps[i].kept;
    row["best_rate"] = found.best_rate;
    row["ended_by"] = SweepEndName(found.end);
  }
  if (found.best_rate == 0 && found.end == SweepEnd::kBusyGenerator) return BusyGenerator();
  if (found.best_rate == 0)
    return absl::FailedPreconditionError(scenario.name + ": no rate that was tried keeps the goal");
  return absl::OkStatus();
}

absl::Status SweepLoads(const LoadFlags& flags) {
  RaiseFileLimit();
  ASSIGN_OR_RETURN(const std::vector<Scenario> scenarios, ScenariosOf(flags));
  ASSIGN_OR_RETURN(const std::vector<Target> targets, TargetsOf(flags));
  std::fputs(SummaryHeader().c_str(), stdout);
  Json runs = Json::array();
  absl::Status status;
  for (const Scenario& scenario : scenarios) {
    for (const Target& target : targets) status.Update(SweepOne(scenario, target, flags, runs));
  }
  if (!runs.empty()) status.Update(KeepResults(flags.output, "sweep", std::move(runs)));
  return status;
}

std::shared_ptr<LoadFlags> AddLoadFlags(CLI::App* command) {
  auto flags = std::make_shared<LoadFlags>();
  command->add_option("SCENARIO", flags->file,
                      "A YAML file of benchmarks/serving; none: the defaults");
  command
      ->add_option(
          "--target", flags->targets,
          "host:port of a server (127.0.0.1:8000); several are measured turn and turn about")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--set", flags->assignments, "key=value over every scenario of the file")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--output", flags->output, "A file for the figures as JSON");
  command->add_option("--api-key", flags->api_key, "The servers' key");
  command->add_option("--ca", flags->ca_file,
                      "PEM file of the authorities that https targets are held to (default: the "
                      "system's)");
  command
      ->add_option("--pid", flags->pids,
                   "The servers' processes, as the targets, for CPU time and memory")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_flag("--quiet", flags->quiet, "No progress bar");
  return flags;
}

}  // namespace

void AddBenchServeCommand(CLI::App& bench, int& exit_code) {
  CLI::App* command = bench.add_subcommand(
      "serve", "Send a load to OpenAI-compatible servers and measure the answers");
  const std::shared_ptr<LoadFlags> flags = AddLoadFlags(command);
  command->add_option("--rounds", flags->rounds, "Each scenario so many times")
      ->check(CLI::Range(1, 1000));
  command->add_flag("--allow-busy-generator", flags->allow_busy_generator,
                    "Exit code 0 even where the load generator was the bottleneck");
  command->callback([flags, &exit_code] { EndBench(ServeLoads(*flags), exit_code); });
}

void AddBenchSweepCommand(CLI::App& bench, int& exit_code) {
  CLI::App* command =
      bench.add_subcommand("sweep", "Find the highest rate at which a server keeps a goal");
  const std::shared_ptr<LoadFlags> flags = AddLoadFlags(command);
  command->add_option("--attain", flags->sweep.attain, "Share of requests that must be good (0.99)")
      ->check(CLI::Range(0.01, 1.0));
  command->add_option("--precision", flags->sweep.precision, "Of the rate (0.05)")
      ->check(CLI::Range(0.001, 1.0));
  command->callback([flags, &exit_code] { EndBench(SweepLoads(*flags), exit_code); });
}

}  // namespace penstock
