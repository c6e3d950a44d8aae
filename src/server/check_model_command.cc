#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "base/status_macros.h"
#include "base/worker_pool.h"
#include "executor/golden_check.h"
#include "server/commands.h"

namespace penstock {
namespace {

struct CheckModelFlags {
  std::string dir;
  std::string dtype;  // empty: float32, or what the device has instead
  std::string device = "cpu";
  std::string golden;
  std::string weights = "file";
  std::string quantize = "none";
  int tensor_parallel = 1;
  bool integer_inputs = false;
  bool json = false;
};

constexpr int kGateFailed = 2;
constexpr int kNoDevice = 4;

void PrintTable(const GoldenReport& report) {
  std::printf("%-7s %-11s %7s %11s %11s %11s  %-9s %-9s %s\n", "prompt", "way", "tokens", "error",
              "median", "p90", "bits", "greedy", "");
  for (const GoldenResult& r : report.results) {
    std::printf("%-7zu %-11s %7d %11.3e %11.3e %11.3e  %-9s %2d (>=%2d) %s\n", r.prompt,
                r.way.c_str(), r.num_tokens, r.error, r.median, r.p90,
                r.same_bits ? "equal" : "DIFFERENT", r.greedy_equal, r.greedy_required,
                r.passed ? "ok" : "MISSES");
  }
  std::printf(
      "all positions of prompts of 5 tokens or more: median %.3e, 90th percentile %.3e\n%s\n",
      report.median, report.p90, report.passed ? "passed" : "FAILED");
}

void PrintJson(const CheckModelFlags& flags, DType dtype, const GoldenReport& report) {
  nlohmann::json results = nlohmann::json::array();
  for (const GoldenResult& r : report.results) {
    results.push_back({{"prompt", r.prompt},
                       {"way", r.way},
                       {"tokens", r.num_tokens},
                       {"error", r.error},
                       {"median", r.median},
                       {"p90", r.p90},
                       {"same_bits", r.same_bits},
                       {"greedy_equal", r.greedy_equal},
                       {"greedy_required", r.greedy_required},
                       {"passed", r.passed}});
  }
  const nlohmann::json out = {
      {"model", flags.dir},           {"dtype", DTypeName(dtype)}, {"device", flags.device},
      {"median", report.median},      {"p90", report.p90},         {"passed", report.passed},
      {"results", std::move(results)}};
  std::printf("%s\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

absl::StatusOr<bool> CheckModel(const CheckModelFlags& flags) {
  WorkerPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  LoadOptions load;
  load.model_dir = flags.dir;
  load.weights = flags.weights;
  load.device = flags.device;
  load.quantize = flags.quantize;
  if (!flags.dtype.empty()) load.dtype = flags.dtype;
  load.integer_inputs = flags.integer_inputs ? "on" : "auto";
  load.deterministic = "strict";  // every way of computing a prompt gives the same bits
  load.tensor_parallel = flags.tensor_parallel;
  load.pool = &pool;
  ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(load));
  DType dtype = model->abilities.float32 ? DType::kFloat32 : model->auto_dtype;
  if (!flags.dtype.empty()) {
    ASSIGN_OR_RETURN(dtype, ParseActivationDType(flags.dtype, model->auto_dtype));
  }
  if (!model->note.empty()) std::fprintf(stderr, "%s\n", model->note.c_str());
  const std::string golden =
      flags.golden.empty() ? flags.dir + "/golden.safetensors" : flags.golden;
  ASSIGN_OR_RETURN(const std::vector<GoldenPrompt> prompts,
                   LoadGolden(golden, model->config.vocab_size));
  ASSIGN_OR_RETURN(const GoldenReport report, CheckGolden(model.get(), dtype, prompts));
  if (flags.json) {
    PrintJson(flags, dtype, report);
  } else {
    PrintTable(report);
  }
  return report.passed;
}

}  // namespace

void AddCheckModelCommand(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<CheckModelFlags>();
  CLI::App* command = app.add_subcommand(
      "check-model",
      "Compare a model with reference logits, in every way in which a prompt is computed");
  command->add_option("dir", flags->dir, "Model directory or .gguf file")->required();
  command->add_option(
      "--dtype", flags->dtype,
      "Activations and KV: auto | float32 | bfloat16 | float16 (default: float32 where the "
      "device computes in it)");
  command->add_option("--device", flags->device, "auto | cpu | cuda:N | cuda-emulated")
      ->capture_default_str();
  command->add_option("--golden", flags->golden,
                      "Reference logits (default: DIR/golden.safetensors)");
  command->add_option("--weights", flags->weights, "file, or formula: of config.json alone")
      ->check(CLI::IsMember({"file", "formula"}))
      ->capture_default_str();
  command
      ->add_option("--quantize", flags->quantize,
                   "Round weights at load: none | int8 | int8-channel | int4 | int4-128")
      ->capture_default_str();
  command->add_flag("--integer-inputs", flags->integer_inputs,
                    "Multiply every layer of integer codes in integers");
  command
      ->add_option("--tp,--tensor-parallel-size", flags->tensor_parallel,
                   "Ranks that share each layer")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] {
    const absl::StatusOr<bool> passed = CheckModel(*flags);
    if (!passed.ok()) {
      std::fprintf(stderr, "penstock: %s\n", std::string(passed.status().message()).c_str());
      exit_code = absl::IsUnavailable(passed.status()) ? kNoDevice : 1;
    } else {
      exit_code = *passed ? 0 : kGateFailed;
    }
  });
}

}  // namespace penstock
