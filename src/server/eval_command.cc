// penstock eval: what a form of a model (quantised, another KV type) or a server costs in quality.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "bench/probes.h"
#include "bench/text_eval.h"
#include "executor/text_quality.h"
#include "server/bench_command.h"
#include "server/commands.h"
#include "server/model_instance.h"
#include "server/model_source.h"
#include "server/progress_line.h"

namespace penstock {
namespace {

struct EvalFlags {
  std::string model, reference, text;
  std::string quantize = "none";
  std::string dtype = "float32";
  std::string kv_dtype = "float32";
  std::string device = "cpu";
  std::string server, reference_server, api_key, ca_file, probes, keep_probes;
  ServerEvalOptions served;
  bool integer_inputs = false;
  double floor = 1;
  int64_t max_tokens = 1 << 16;
  int32_t window = 512;
  bool json = false;
};

absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const EvalFlags& flags, bool reference,
                                                  WorkerPool* pool) {
  LoadOptions load;
  const std::string& name = reference && !flags.reference.empty() ? flags.reference : flags.model;
  ASSIGN_OR_RETURN(load.model_dir, ResolveModel(name, HubOptionsFromEnvironment()));
  load.device = flags.device;
  load.dtype = flags.dtype;
  load.pool = pool;
  if (!reference) {
    load.quantize = flags.quantize;
    load.integer_inputs = flags.integer_inputs ? "on" : "auto";
  }
  return LoadModel(load);
}

absl::StatusOr<std::vector<TokenId>> ReadIds(const EvalFlags& flags) {
  ASSIGN_OR_RETURN(const std::string path, ResolveModel(flags.model, HubOptionsFromEnvironment()));
  ASSIGN_OR_RETURN(const TextAssets assets, LoadTextAssets(path, ""));
  if (assets.tokenizer == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the model has no tokenizer"));
  }
  ASSIGN_OR_RETURN(const MmapFile file, MmapFile::Open(flags.text));
  const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()),
                               file.bytes().size());
  std::vector<TokenId> ids = assets.tokenizer->Encode(bytes, false);
  RETURN_IF_ERROR(file.Intact());
  if (static_cast<int64_t>(ids.size()) > flags.max_tokens) ids.resize(flags.max_tokens);
  return ids;
}

absl::Status EvaluateModel(const EvalFlags& flags) {
  WorkerPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  ASSIGN_OR_RETURN(const std::vector<TokenId> ids, ReadIds(flags));
  ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, Load(flags, false, &pool));
  ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> reference, Load(flags, true, &pool));
  ModelUnderTest tested{model.get()};
  ASSIGN_OR_RETURN(tested.dtype, ParseActivationDType(flags.dtype, model->auto_dtype));
  ASSIGN_OR_RETURN(
      tested.kv_dtype,
      ParseCacheDType(flags.kv_dtype, flags.dtype == "auto" ? model->auto_kv_dtype : tested.dtype));
  const int32_t window = std::min(flags.window, model->config.max_positions);
  const ProgressLine line("eval");
  ASSIGN_OR_RETURN(const TextQuality q,
                   MeasureTextQuality(tested, {reference.get()}, ids, window, line.Steps()));
  line.Clear();
  if (flags.json) {
    PrintResults("eval", {{"model", flags.model},
                          {"quantize", flags.quantize},
                          {"dtype", DTypeName(tested.dtype)},
                          {"kv_dtype", DTypeName(tested.kv_dtype)},
                          {"reference", flags.reference},
                          {"predictions", q.num_predictions},
                          {"perplexity", q.perplexity},
                          {"reference_perplexity", q.reference_perplexity},
                          {"mean_kl", q.mean_kl},
                          {"p99_kl", q.p99_kl},
                          {"same_top1", q.same_top1}});
    return absl::OkStatus();
  }
  std::printf(
      "%lld predictions\nperplexity    %.4f (reference %.4f, %+.3f %%)\nKL divergence %.6f nats "
      "(99th percentile %.6f)\nsame top 1    %.2f %%\n",
      static_cast<long long>(q.num_predictions), q.perplexity, q.reference_perplexity,
      100 * (q.perplexity / q.reference_perplexity - 1), q.mean_kl, q.p99_kl, 100 * q.same_top1);
  return absl::OkStatus();
}

absl::StatusOr<Target> TargetOf(const EvalFlags& flags, const std::string& address) {
  ASSIGN_OR_RETURN(Target target, ParseTarget(address));
  target.api_key = flags.api_key;
  target.ca_file = flags.ca_file;
  return target;
}

absl::Status EvaluateServed(const EvalFlags& flags) {
  ASSIGN_OR_RETURN(const Target server, TargetOf(flags, flags.server));
  std::optional<Target> reference;
  if (!flags.reference_server.empty()) {
    ASSIGN_OR_RETURN(reference, TargetOf(flags, flags.reference_server));
  }
  ASSIGN_OR_RETURN(const MmapFile file, MmapFile::Open(flags.text));
  const std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  RETURN_IF_ERROR(file.Intact());
  const ProgressLine line("eval");
  ASSIGN_OR_RETURN(const ServerQuality q,
                   EvaluateServer(server, reference.has_value() ? &*reference : nullptr, text,
                                  flags.served, line.Steps()));
  line.Clear();
  if (flags.json) {
    nlohmann::ordered_json out = {{"server", server.name()},
                                  {"predictions", q.num_predictions},
                                  {"perplexity", q.perplexity}};
    if (reference.has_value()) {
      out["reference_server"] = reference->name();
      out["reference_perplexity"] = q.reference_perplexity;
      out["least_mean_kl"] = q.least_mean_kl;
      out["least_p99_kl"] = q.least_p99_kl;
      out["same_top1"] = q.same_top1;
    }
    PrintResults("eval", out);
    return absl::OkStatus();
  }
  std::printf("%lld predictions\nperplexity    %.4f", static_cast<long long>(q.num_predictions),
              q.perplexity);
  if (reference.has_value()) {
    std::printf(
        " (reference %.4f, %+.3f %%)\nKL divergence at least %.6f nats (99th percentile %.6f), "
        "of the %d most likely tokens\nsame top 1    %.2f %%",
        q.reference_perplexity, 100 * (q.perplexity / q.reference_perplexity - 1), q.least_mean_kl,
        q.least_p99_kl, flags.served.top, 100 * q.same_top1);
  }
  std::printf("\n");
  return absl::OkStatus();
}

/// FAILED_PRECONDITION: fewer passed than the floor asks for.
absl::Status EvaluateProbes(const EvalFlags& flags) {
  ASSIGN_OR_RETURN(const Target server, TargetOf(flags, flags.server));
  ASSIGN_OR_RETURN(std::vector<Probe> probes, ReadProbes(flags.probes));
  const bool keep = !flags.keep_probes.empty();
  const ProgressLine line("probes");
  ASSIGN_OR_RETURN(const ProbeResult result,
                   RunProbes(server, flags.served.model, keep, probes, line.Steps()));
  line.Clear();
  if (keep) RETURN_IF_ERROR(WriteProbes(flags.keep_probes, probes));
  if (flags.json) {
    PrintResults("eval", {{"probes", result.num_probes},
                          {"passed", result.num_passed},
                          {"first_failure", result.first_failure}});
  } else {
    std::printf("%lld of %lld probes passed\n", static_cast<long long>(result.num_passed),
                static_cast<long long>(result.num_probes));
  }
  const double share =
      static_cast<double>(result.num_passed) / static_cast<double>(result.num_probes);
  if (share >= flags.floor) return absl::OkStatus();
  return absl::FailedPreconditionError(result.first_failure);
}

absl::Status Evaluate(const EvalFlags& flags) {
  if (!flags.probes.empty()) {
    if (flags.server.empty()) return absl::InvalidArgumentError("--probes: expected a --server");
    return EvaluateProbes(flags);
  }
  if (flags.text.empty()) return absl::InvalidArgumentError("expected --text or --probes");
  if (flags.server.empty() == flags.model.empty())
    return absl::InvalidArgumentError("expected a MODEL or a --server");
  return flags.server.empty() ? EvaluateModel(flags) : EvaluateServed(flags);
}

}  // namespace

void AddEvalCommand(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app.add_subcommand(
      "eval",
      "Perplexity of a model or server on a text, its divergence from a reference, kept answers");
  command->add_option("MODEL", flags->model, "Model directory, .gguf file or org/name");
  command->add_option("--text", flags->text, "A text file");
  command->add_option("--server", flags->server, "host:port of a server, in place of MODEL");
  command->add_option("--reference-server", flags->reference_server, "What it is compared with");
  command->add_option("--api-key", flags->api_key, "The servers' key");
  command->add_option("--ca", flags->ca_file, "CA file (PEM) of https (default: the system's)");
  command->add_option("--served-model", flags->served.model,
                      "Its name there (default: the first of its list)");
  command->add_option("--reference-served-model", flags->served.reference_model,
                      "The reference's name there");
  command
      ->add_option("--windows", flags->served.max_windows, "With --server: at most so many of 2 KB")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--top", flags->served.top, "With --server: log-probs per token")
      ->check(CLI::Range(1, 20))
      ->capture_default_str();
  command->add_option("--probes", flags->probes,
                      "With --server: prompts and what is expected (docs/bench.md); exit code 2 "
                      "where too few pass");
  command->add_option("--floor", flags->floor, "Least share of probes that must pass")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--keep-probes", flags->keep_probes,
                      "Write probes with the answers of now to this file");
  command->add_option("--reference", flags->reference,
                      "What MODEL is compared with, in float32 (default: itself as its file is)");
  command
      ->add_option("--quantize", flags->quantize,
                   "Round weights at load: none | int8 | int8-channel | int4 | int4-128")
      ->capture_default_str();
  command->add_flag("--integer-inputs", flags->integer_inputs,
                    "Multiply every layer of integer codes in integers");
  command->add_option("--dtype", flags->dtype, "Activations: float32 | bfloat16 | float16")
      ->capture_default_str();
  command->add_option("--kv-dtype", flags->kv_dtype, "auto | float32 | bfloat16 | float16 | int8")
      ->capture_default_str();
  command->add_option("--device", flags->device, "auto | cpu | cuda:N | cuda-emulated")
      ->capture_default_str();
  command->add_option("--tokens", flags->max_tokens, "At most so many tokens of the text")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--window", flags->window, "Tokens at once; half are predicted")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] { EndBench(Evaluate(*flags), exit_code); });
}

}  // namespace penstock
