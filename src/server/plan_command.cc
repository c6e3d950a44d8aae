// penstock plan: what serving a configuration's models would take of their devices.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/machine.h"
#include "base/status_macros.h"
#include "config/load_config.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/model_instance.h"
#include "server/model_source.h"
#include "text/grammar/grammar_compiler.h"

namespace penstock {
namespace {

struct PlanFlags {
  std::string model, config, gpu_memory, weights;
  std::vector<std::string> assignments;
  bool json = false;
};

nlohmann::ordered_json PlanJson(const MemoryPlan& plan) {
  return {{"device", plan.device},
          {"ranks", plan.ranks},
          {"weights_bytes", plan.weight_bytes},
          {"kv_bytes", plan.kv_bytes},
          {"kv_offload_bytes", plan.tier_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"at_start_bytes", plan.at_start()},
          {"step_bytes", plan.step_bytes},
          {"total_bytes", plan.total()},
          {"grammar_bytes", GrammarCompiler::kMostBytes},
          {"rank_bytes", plan.rank_bytes},
          {"max_len", plan.max_len},
          {"kv_tokens", plan.kv_tokens},
          {"sequences", plan.sequences},
          {"note", plan.note},
          {"absent", std::string(plan.absent.message())}};
}

void PrintPlan(const std::string& name, const MemoryPlan& plan, bool gpu_memory_said) {
  const auto line = [](const char* what, int64_t bytes) {
    std::printf("  %-12s %15lld bytes %10.1f MiB\n", what, static_cast<long long>(bytes),
                static_cast<double>(bytes) / (1 << 20));
  };
  std::printf("%s on %s", name.c_str(), plan.device.c_str());
  if (plan.ranks > 1) std::printf(", %d ranks together", plan.ranks);
  std::printf("\n");
  line("weights", plan.weight_bytes);
  line("KV cache", plan.kv_bytes);
  if (plan.tier_bytes > 0 && !plan.tier_beside) line("KV offload", plan.tier_bytes);
  line("activations", plan.activation_bytes);
  line("at start", plan.at_start());
  line("steps, most", plan.step_bytes);
  line("total", plan.total());
  if (plan.ranks > 1) line("a rank, most", plan.rank_bytes);
  if (!plan.absent.ok() && !gpu_memory_said) {
    std::printf("  its memory is not known, --gpu-memory says it: %s\n",
                std::string(plan.absent.message()).c_str());
  }
  if (!plan.note.empty()) std::printf("  %s\n", plan.note.c_str());
  if (plan.tier_bytes > 0 && plan.tier_beside) {
    std::printf("  besides, of the host's memory, pinned: KV offload, %lld MiB\n",
                static_cast<long long>(plan.tier_bytes >> 20));
  }
  std::printf("  besides, of the host's memory: grammars of structured answers, up to %lld MiB\n",
              static_cast<long long>(GrammarCompiler::kMostBytes >> 20));
  std::printf("  the cache holds %lld positions: %lld sequences of %d\n",
              static_cast<long long>(plan.kv_tokens), static_cast<long long>(plan.sequences),
              plan.max_len);
}

/// A size as the configuration has it.
absl::StatusOr<int64_t> ParseSize(const std::string& text) {
  if (text.empty()) return 0;
  ASSIGN_OR_RETURN(const ServerConfig read,
                   ReadConfig("", {absl::StrCat("engine.kv_memory=", text)}));
  return read.engine.kv_memory.automatic() ? 0 : read.engine.kv_memory.value;
}

absl::Status PlanAll(const PlanFlags& flags) {
  ASSIGN_OR_RETURN(ServerConfig config, ReadConfig(flags.config, flags.assignments));
  if (!flags.model.empty()) {
    ModelEntry entry;
    entry.path = flags.model;
    entry.engine = config.engine;
    if (!flags.weights.empty()) entry.weights = flags.weights;
    config.models.emplace(DefaultModelName(flags.model), std::move(entry));
  }
  if (config.models.empty())
    return absl::InvalidArgumentError("no model: name one, or a --config that has some");
  ASSIGN_OR_RETURN(const int64_t gpu_memory, ParseSize(flags.gpu_memory));
  WorkerPool pool(AllowedCpus());
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, entry] : config.models) {
    const absl::StatusOr<MemoryPlan> plan = PlanInstance(entry, &pool, gpu_memory);
    if (!plan.ok()) {
      return absl::Status(plan.status().code(),
                          absl::StrCat("models.", name, ": ", plan.status().message()));
    }
    if (flags.json) {
      out[name] = PlanJson(*plan);
    } else {
      PrintPlan(name, *plan, gpu_memory > 0);
    }
  }
  if (flags.json) std::printf("%s\n", out.dump(2).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddPlanCommand(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand(
      "plan", "Say what serving would take of the device's memory, before anything is loaded");
  command->add_option("MODEL", flags->model, "A directory, .gguf file or org/name[@rev]");
  command->add_option("--config", flags->config, "A YAML file, as for serve");
  command->add_option("--set", flags->assignments, "key.path=value, as for serve")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--weights", flags->weights, "With MODEL: file or formula");
  command->add_option(
      "--gpu-memory", flags->gpu_memory,
      "Of a GPU that is not there (80GiB): what kv_memory: auto counts with. Of one "
      "that is, it is asked");
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] {
    const absl::Status done = PlanAll(*flags);
    if (done.ok()) return;
    std::fprintf(stderr, "penstock: %s\n", std::string(done.message()).c_str());
    exit_code = 1;
  });
}

}  // namespace penstock
