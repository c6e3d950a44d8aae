#include "executor/load_model.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/make_backend.h"
#include "base/status_macros.h"
#include "format/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_source.h"
#include "model/quantizing_source.h"

namespace penstock {
namespace {

/// A GGUF file says both what the network is and what its weights are.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenGguf(const std::string& path,
                                                       ModelConfig& config) {
  ASSIGN_OR_RETURN(Gguf opened, Gguf::Open(path));
  const auto file = std::make_shared<const Gguf>(std::move(opened));
  ASSIGN_OR_RETURN(const std::string json, GgufConfigJson(*file));
  ASSIGN_OR_RETURN(config, ParseModelConfig(json, path));
  return GgufSource::Make(file);
}

}  // namespace

absl::StatusOr<OpenedModel> OpenModel(const std::string& model_dir, const std::string& weights) {
  OpenedModel opened;
  if (weights != "file" && weights != "formula") {
    return absl::InvalidArgumentError(
        absl::StrCat("weights is \"", weights, "\", expected file or formula"));
  }
  if (absl::EndsWith(model_dir, ".gguf")) {
    ASSIGN_OR_RETURN(opened.source, OpenGguf(model_dir, opened.config));
  } else {
    ASSIGN_OR_RETURN(opened.config, LoadModelConfig(model_dir));
    if (weights == "file") {
      ASSIGN_OR_RETURN(QuantizationConfig quantization, LoadQuantizationConfig(model_dir));
      ASSIGN_OR_RETURN(opened.source, MakeFileSource(model_dir, std::move(quantization)));
    }
  }
  if (weights == "formula") opened.source = MakeFormulaSource();
  return opened;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const LoadOptions& options) {
  auto model = std::make_unique<LoadedModel>();
  ASSIGN_OR_RETURN(OpenedModel opened, OpenModel(options.model_dir, options.weights));
  model->config = std::move(opened.config);
  ASSIGN_OR_RETURN(const RoundingRule rule, ParseRoundingRule(options.quantize));
  const bool integer_inputs = options.integer_inputs == "on";
  if (rule.bits != 0 || integer_inputs) {
    opened.source = MakeQuantizingSource(std::move(opened.source), rule, integer_inputs);
  }
  ASSIGN_OR_RETURN(model->device, MakeBackend(options.device, options.pool, model->note));
  ASSIGN_OR_RETURN(model->weights,
                   LoadWeights(model->config, *opened.source, *model->device, options.progress));
  if (options.weights == "file") {
    ASSIGN_OR_RETURN(model->dense, LoadDenseModules(options.model_dir, model->config));
  }
  return model;
}

absl::StatusOr<DType> ParseActivationDType(const std::string& name) {
  if (name == "auto" || name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype is \"", name, "\", expected auto, float32 or bfloat16"));
}

}  // namespace penstock
