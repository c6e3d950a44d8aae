// penstock compare: what a form of a model (quantised, another KV type) costs in quality.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "executor/text_quality.h"
#include "server/commands.h"
#include "server/model_instance.h"
#include "server/model_source.h"

namespace penstock {
namespace {

struct CompareFlags {
  std::string model, reference, text;
  std::string quantize = "none";
  std::string dtype = "float32";
  std::string kv_dtype = "float32";
  std::string device = "cpu";
  bool integer_inputs = false;
  int64_t max_tokens = 1 << 16;
  int32_t window = 512;
  bool json = false;
};

absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const CompareFlags& flags, bool reference,
                                                  WorkerPool* pool) {
  LoadOptions load;
  const std::string& name = reference && !flags.reference.empty() ? flags.reference : flags.model;
  ASSIGN_OR_RETURN(load.model_dir, ResolveModel(name, HubOptionsFromEnvironment()));
  load.device = flags.device;
  load.pool = pool;
  if (!reference) {
    load.quantize = flags.quantize;
    load.integer_inputs = flags.integer_inputs ? "on" : "auto";
  }
  return LoadModel(load);
}

absl::StatusOr<std::vector<TokenId>> ReadIds(const CompareFlags& flags) {
  ASSIGN_OR_RETURN(const std::string path, ResolveModel(flags.model, HubOptionsFromEnvironment()));
  ASSIGN_OR_RETURN(const TextAssets assets, LoadTextAssets(path, ""));
  if (assets.tokenizer == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the model has no tokenizer"));
  }
  ASSIGN_OR_RETURN(const MmapFile file, MmapFile::Open(flags.text));
  const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()),
                               file.bytes().size());
  std::vector<TokenId> ids = assets.tokenizer->Encode(bytes, false);
  if (static_cast<int64_t>(ids.size()) > flags.max_tokens) ids.resize(flags.max_tokens);
  return ids;
}

absl::Status Compare(const CompareFlags& flags) {
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
  ASSIGN_OR_RETURN(const TextQuality q, MeasureTextQuality(tested, {reference.get()}, ids, window));
  if (flags.json) {
    const nlohmann::ordered_json out = {{"model", flags.model},
                                        {"quantize", flags.quantize},
                                        {"dtype", DTypeName(tested.dtype)},
                                        {"kv_dtype", DTypeName(tested.kv_dtype)},
                                        {"reference", flags.reference},
                                        {"predictions", q.num_predictions},
                                        {"perplexity", q.perplexity},
                                        {"reference_perplexity", q.reference_perplexity},
                                        {"mean_kl", q.mean_kl},
                                        {"p99_kl", q.p99_kl},
                                        {"same_top1", q.same_top1}};
    std::printf("%s\n", out.dump(2).c_str());
    return absl::OkStatus();
  }
  std::printf(
      "%lld predictions\nperplexity    %.4f (reference %.4f, %+.3f %%)\nKL divergence %.6f nats "
      "(99th percentile %.6f)\nsame top 1    %.2f %%\n",
      static_cast<long long>(q.num_predictions), q.perplexity, q.reference_perplexity,
      100 * (q.perplexity / q.reference_perplexity - 1), q.mean_kl, q.p99_kl, 100 * q.same_top1);
  return absl::OkStatus();
}

}  // namespace

void AddCompareCommand(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* command = app.add_subcommand(
      "compare", "Perplexity of a model on a text, and its divergence from a reference");
  command->add_option("model", flags->model, "Model directory, .gguf file or org/name")->required();
  command->add_option("--text", flags->text, "A text file")->required();
  command->add_option("--reference", flags->reference,
                      "The model to compare with, in float32 (default: the model itself, as its "
                      "file has it)");
  command
      ->add_option("--quantize", flags->quantize,
                   "Round weights at load: none | int8 | int8-channel | int4 | int4-128")
      ->capture_default_str();
  command->add_flag("--integer-inputs", flags->integer_inputs,
                    "Multiply every layer of integer codes in integers");
  command->add_option("--dtype", flags->dtype, "Activations: float32 | bfloat16")
      ->capture_default_str();
  command->add_option("--kv-dtype", flags->kv_dtype, "KV cache: auto | float32 | bfloat16 | int8")
      ->capture_default_str();
  command->add_option("--device", flags->device, "auto | cpu | cuda:N | cuda-emulated")
      ->capture_default_str();
  command->add_option("--tokens", flags->max_tokens, "At most so many tokens of the text")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--window", flags->window, "Tokens computed together; half are predicted")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] {
    const absl::Status status = Compare(*flags);
    exit_code = status.ok() ? 0 : 1;
    if (!status.ok()) {
      std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
    }
  });
}

}  // namespace penstock
