// penstock bench kernels and offline: this machine, without a wire.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backend/make_backend.h"
#include "base/machine.h"
#include "base/status_macros.h"
#include "bench/report.h"
#include "bench/summary.h"
#include "measure/kernel_figures.h"
#include "measure/offline_run.h"
#include "measure/roofline.h"
#include "metrics/catalogue.h"
#include "server/bench_command.h"
#include "server/config_sources.h"
#include "server/model_instance.h"
#include "server/progress_line.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

struct KernelFlags {
  KernelOptions options;
  std::string output;
  int threads = 0;
};

/// The limits as results have them; an arithmetic that the processor lacks is left out.
Json LimitsJson(const Roofline& limits) {
  Json out;
  for (const Arithmetic one :
       {Arithmetic::kFloat, Arithmetic::kBFloat16, Arithmetic::kBytes, Arithmetic::kWords}) {
    if (limits.Of(one) > 0) out[absl::StrCat(ArithmeticName(one), "_gops")] = limits.Of(one);
  }
  out["memory_gbs"] = limits.memory_gbs;
  return out;
}

absl::Status BenchKernels(const KernelFlags& flags) {
  WorkerPool pool(flags.threads > 0 ? flags.threads : AllowedCpus());
  ASSIGN_OR_RETURN(OpenedBackend backend, OpenBackend({"cpu", &pool}));
  const Roofline limits = MeasureRoofline(pool);
  const Json limits_json = LimitsJson(limits);
  std::printf("%d threads, kernels %s\nlimits: %s\n", pool.num_threads(), backend.kernels.c_str(),
              LimitsText(limits_json).c_str());
  std::printf("%-44s %12s %9s %8s %14s %10s\n", "operation", "us", "Gop/s", "GB/s", "of arithmetic",
              "of memory");
  Json runs = Json::array();
  const ProgressLine line("kernels");
  const auto show = [&](const KernelFigure& f) {
    line.Clear();
    const double gops = f.operations / f.seconds * 1e-9, gbs = f.bytes / f.seconds * 1e-9;
    const double share = gops / limits.Of(f.arithmetic);
    std::printf("%-44s %12.1f %9.1f %8.1f %7.0f%% %5s %9.0f%%\n", f.name.c_str(), f.seconds * 1e6,
                gops, gbs, 100 * share, ArithmeticName(f.arithmetic),
                100 * gbs / limits.memory_gbs);
    std::fflush(stdout);
    runs.push_back({{"scenario", {{"name", f.name}}},
                    {"result",
                     {{"us", f.seconds * 1e6},
                      {"calls", f.calls},
                      {"gops", gops},
                      {"gbs", gbs},
                      {"intensity", f.operations / f.bytes},
                      {"arithmetic", ArithmeticName(f.arithmetic)},
                      {"of_arithmetic", share},
                      {"of_memory", gbs / limits.memory_gbs}}}});
  };
  KernelOptions options = flags.options;
  options.fast_bf16 = backend.fast_bf16;
  options.byte_products = backend.byte_products;
  RETURN_IF_ERROR(MeasureKernels(*backend.device, options, show, line.Steps()).status());
  if (flags.output.empty()) return absl::OkStatus();
  Json file = ResultFile("kernels", BenchVersion(), std::move(runs));
  file["kernels"] = backend.kernels;
  file["threads"] = pool.num_threads();
  file["limits"] = limits_json;
  return WriteResultFile(flags.output, file);
}

struct OfflineFlags {
  std::string model, weights, output;
  std::vector<std::string> assignments;
  OfflineOptions options;
  int rounds = 3;
};

/// Prints a round.
Json OfflineRow(const OfflineFlags& flags, int round, const OfflineResult& r) {
  const double out = static_cast<double>(r.output_tokens) / r.seconds;
  const double in = static_cast<double>(r.prompt_tokens) / r.seconds;
  std::printf("%-10d %6ld %8ld %12.1f %12.1f %10ld %10.3f\n", round, static_cast<long>(r.num_ok),
              static_cast<long>(r.num_failed), out, in, static_cast<long>(r.cached_tokens),
              r.seconds);
  std::fflush(stdout);
  return {{"scenario",
           {{"name", "offline"},
            {"model", flags.model},
            {"set", flags.assignments},
            {"requests", flags.options.requests},
            {"prompt_tokens", flags.options.prompt_tokens},
            {"shared_tokens", flags.options.shared_tokens},
            {"output_tokens", flags.options.output_tokens}}},
          {"round", round},
          {"result",
           {{"ok", r.num_ok},
            {"failed", r.num_failed},
            {"seconds", r.seconds},
            {"first_token_seconds", r.first_seconds},
            {"requests_per_second", static_cast<double>(r.num_ok) / r.seconds},
            {"output_tokens_per_second", out},
            {"prompt_tokens_per_second", in},
            {"cached_tokens", r.cached_tokens}}}};
}

absl::Status BenchOffline(const OfflineFlags& flags) {
  ASSIGN_OR_RETURN(const ServerConfig config, ReadConfig("", flags.assignments));
  ModelEntry entry;
  entry.path = flags.model;
  entry.engine = config.engine;
  if (!flags.weights.empty()) entry.weights = flags.weights;
  WorkerPool pool(AllowedCpus());
  Catalogue catalogue(PENSTOCK_VERSION);
  InstanceParts parts;
  parts.pool = &pool;
  parts.catalogue = &catalogue;
  parts.clock = &SystemClock::Get();
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelInstance> instance,
                   ModelInstance::Load("offline", entry, parts));
  std::printf("%-10s %6s %8s %12s %12s %10s %10s\n", "round", "ok", "failed", "tok out/s",
              "tok in/s", "cached", "seconds");
  Json runs = Json::array();
  const ProgressLine line("offline");
  const auto show = [&](int round, const OfflineResult& r) {
    line.Clear();
    runs.push_back(OfflineRow(flags, round, r));
  };
  const absl::Status status =
      RunOfflineRounds(instance->engine(), flags.options, flags.rounds, show, line.Steps());
  if (!runs.empty()) RETURN_IF_ERROR(KeepResults(flags.output, "offline", std::move(runs)));
  return status;
}

}  // namespace

void AddBenchLocalCommands(CLI::App& bench, int& exit_code) {
  auto kernels = std::make_shared<KernelFlags>();
  CLI::App* command = bench.add_subcommand(
      "kernels", "The CPU's operations beside the machine's limits, measured in the same run");
  command->add_option("--filter", kernels->options.filter, "A regular expression over the names");
  command->add_option("--seconds", kernels->options.seconds, "For each operation (0.3)")
      ->check(CLI::Range(0.001, 60.0));
  command->add_option("--threads", kernels->threads, "All that are allowed, where it is left out")
      ->check(CLI::Range(1, 1024));
  command->add_option("--output", kernels->output, "A file for the figures as JSON");
  command->callback([kernels, &exit_code] { EndBench(BenchKernels(*kernels), exit_code); });

  auto offline = std::make_shared<OfflineFlags>();
  command = bench.add_subcommand("offline", "Throughput of the engine without a wire");
  command->add_option("MODEL", offline->model, "A directory, a .gguf or org/name[@rev]")
      ->required();
  command
      ->add_option("--set", offline->assignments,
                   "key.path=value, as for serve: engine.quantize=int8")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--weights", offline->weights, "file or formula");
  const auto count = [&](const char* flag, int32_t& value, const char* what, int least) {
    command->add_option(flag, value, what)->check(CLI::Range(least, 1 << 20));
  };
  count("--requests", offline->options.requests, "So many at once (64)", 1);
  count("--prompt-tokens", offline->options.prompt_tokens, "Of each (128)", 1);
  count("--shared-tokens", offline->options.shared_tokens, "Of these, the same in all (0)", 0);
  count("--output-tokens", offline->options.output_tokens, "Of each (64)", 1);
  count("--rounds", offline->rounds, "So many times (3)", 1);
  command->add_option("--output", offline->output, "A file for the figures as JSON");
  command->callback([offline, &exit_code] { EndBench(BenchOffline(*offline), exit_code); });
}

}  // namespace penstock
