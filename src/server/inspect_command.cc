// penstock inspect: what a model is, and what serving it would cost.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "executor/inspect_model.h"
#include "executor/kv_cache.h"
#include "model/families.h"
#include "server/commands.h"
#include "server/model_instance.h"
#include "server/model_source.h"

namespace penstock {
namespace {

using Report = nlohmann::ordered_json;

Report Shares(const std::map<std::string, TensorShare>& shares) {
  Report out = Report::object();
  for (const auto& [name, share] : shares)
    out[name] = {{"tensors", share.num_tensors}, {"bytes", share.num_bytes}};
  return out;
}

absl::StatusOr<Report> Describe(const std::string& model) {
  ASSIGN_OR_RETURN(const std::string path, ResolveModel(model, HubOptionsFromEnvironment()));
  ASSIGN_OR_RETURN(const ModelReport report, InspectModel(path));
  ASSIGN_OR_RETURN(const TextAssets text, LoadTextAssets(path, ""));
  const ModelConfig& c = report.config;
  Report out;
  out["path"] = path;
  out["architecture"] = c.architecture;
  out["family"] = report.family;
  out["parameters"] = report.num_parameters;
  out["quantization"] = report.quantization.empty() ? Report() : Report(report.quantization);
  out["dtype"] = std::string(DTypeName(c.file_dtype));
  out["formats"] = Shares(report.formats);
  out["layers"] = c.layers.size();
  out["vocabulary"] = c.vocab_size;
  out["context"] = c.context();
  out["kv_bytes_per_token"] = {{"bfloat16", CacheBytesPerToken(c, DType::kBFloat16)},
                               {"float32", CacheBytesPerToken(c, DType::kFloat32)}};
  if (StateBytes(c) > 0) out["state_bytes_per_sequence"] = StateBytes(c);
  out["tokenizer"] = text.tokenizer != nullptr;
  out["chat_template"] = text.chat_templates.plain != nullptr;
  out["tool_template"] = text.chat_templates.with_tools != nullptr;
  out["bos_token"] = text.bos_token;
  out["eos_token"] = text.eos_token;
  out["eos_token_ids"] = text.defaults.eos_token_ids;
  out["prediction_head"] =
      report.prediction_head.empty() ? Report() : Report(report.prediction_head);
  out["ignored"] = Shares(report.ignored);
  if (!report.ignored_keys.empty()) out["ignored_keys"] = report.ignored_keys;
  return out;
}

void PrintLines(const Report& json, const std::string& indent) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object() && !value.empty() && value.begin()->is_object()) {
      std::printf("%s%s:\n", indent.c_str(), key.c_str());
      PrintLines(value, indent + "  ");
      continue;
    }
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (value.is_null() || (value.is_object() && value.empty())) text = "none";
    std::printf("%s%-20s %s\n", indent.c_str(), key.c_str(), text.c_str());
  }
}

void PrintFamilies() {
  std::printf("| architecture | models |\n|---|---|\n");
  for (const Family& family : Families()) {
    std::printf("| `%s` | %s |\n", std::string(family.architecture).c_str(),
                std::string(family.title).c_str());
  }
}

}  // namespace

void AddInspectCommand(CLI::App& app, int& exit_code) {
  struct Options {
    std::string model;
    bool json = false;
    bool families = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Say what a model is, what it costs, and what of it would be ignored");
  command->add_option("MODEL", options->model, "Directory, .gguf file or org/name[@rev]");
  command->add_flag("--json", options->json, "Print JSON");
  command->add_flag("--families", options->families, "Print the table of known families instead");
  command->callback([options, &exit_code] {
    if (options->families) return PrintFamilies();
    const absl::StatusOr<Report> report = Describe(options->model);
    if (!report.ok()) {
      std::fprintf(stderr, "penstock: %s\n", std::string(report.status().message()).c_str());
      exit_code = 1;
    } else if (options->json) {
      std::printf("%s\n", report->dump(2, ' ', false, Report::error_handler_t::replace).c_str());
    } else {
      PrintLines(*report, "");
    }
  });
}

}  // namespace penstock
