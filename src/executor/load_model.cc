#include "executor/load_model.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/make_backend.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "executor/check_device.h"
#include "executor/packed_cache.h"
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

/// `auto` is the CPU where the GPU cannot compute the model.
absl::StatusOr<OpenedBackend> OpenFor(const ModelConfig& config, const LoadOptions& options) {
  BackendOptions backend{options.device, options.pool, options.cpu_kernels, options.deterministic,
                         options.packed_cache};
  if (options.dtype == "float16") backend.numbers = DType::kFloat16;
  const auto open = options.planning ? PlanBackend : OpenBackend;
  ASSIGN_OR_RETURN(OpenedBackend opened, open(backend));
  const std::string device(opened.device->name());
  const absl::Status fits = CheckDevice(config, opened.abilities, device);
  if (fits.ok() || options.device != "auto" || device == "cpu") {
    RETURN_IF_ERROR(fits);
    return opened;
  }
  backend.device = "cpu";
  ASSIGN_OR_RETURN(opened, open(backend));
  absl::StrAppend(&opened.note, opened.note.empty() ? "" : "; ", fits.message());
  return opened;
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
      opened.codes = !quantization.method.empty();
      ASSIGN_OR_RETURN(opened.source, MakeFileSource(model_dir, std::move(quantization)));
    }
  }
  if (weights == "formula") opened.source = MakeFormulaSource();
  opened.bf16_weights =
      !opened.codes && (weights == "formula" || opened.config.file_dtype == DType::kBFloat16);
  return opened;
}

absl::StatusOr<UnreadTensors> FindUnread(const std::string& model_dir, const TensorSource& source,
                                         const ModelConfig& config) {
  absl::StatusOr<UnreadTensors> unread =
      SortUnread(source.Stored(), static_cast<int64_t>(config.layers.size()));
  if (unread.ok()) return unread;
  return absl::Status(unread.status().code(),
                      absl::StrCat(model_dir, ": ", unread.status().message()));
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const LoadOptions& options) {
  auto model = std::make_unique<LoadedModel>();
  ASSIGN_OR_RETURN(OpenedModel opened, OpenModel(options.model_dir, options.weights));
  model->config = std::move(opened.config);
  std::vector<std::string> files = opened.source->Files();
  if (!files.empty() && !absl::EndsWith(options.model_dir, ".gguf")) {
    files.push_back(options.model_dir + "/config.json");
  }
  ASSIGN_OR_RETURN(const RoundingRule rule, ParseRoundingRule(options.quantize));
  const bool integer_inputs = options.integer_inputs == "on";
  if (rule.bits != 0 || integer_inputs) {
    opened.source = MakeQuantizingSource(std::move(opened.source), rule, integer_inputs);
  }
  ASSIGN_OR_RETURN(OpenedBackend backend, OpenFor(model->config, options));
  model->abilities = backend.abilities;
  if (!backend.abilities.float32) {
    model->auto_dtype = model->auto_kv_dtype = backend.abilities.numbers;
  } else if (backend.fast_bf16) {
    if (opened.bf16_weights && rule.bits == 0) model->auto_dtype = DType::kBFloat16;
    if (opened.bf16_weights || opened.codes || rule.bits != 0)
      model->auto_kv_dtype = DType::kBFloat16;
  }
  model->kernels = backend.kernels;
  model->note = backend.note;
  // The file holds what lies in the host's memory.
  const bool cached =
      !options.packed_cache.empty() && backend.device->shares_host_memory() && !options.planning;
  if (files.empty() || !cached) {
    ASSIGN_OR_RETURN(model->weights,
                     LoadWeights(model->config, *opened.source, *backend.device, options.progress));
  } else {
    const PackedCacheOptions cache{
        options.packed_cache, options.model_dir,
        absl::StrCat("quantize ", options.quantize, ", integer inputs ", options.integer_inputs),
        options.build, options.pool};
    ASSIGN_OR_RETURN(PackedLoad load, LoadThroughCache(cache, files, model->config, *opened.source,
                                                       backend, options.progress));
    model->weights = std::move(load.weights);
    model->packed_file = std::move(load.what);
    model->packed_bytes = load.bytes;
    absl::StrAppend(&model->note, model->note.empty() || load.note.empty() ? "" : "; ", load.note);
  }
  ASSIGN_OR_RETURN(model->unread, FindUnread(options.model_dir, *opened.source, model->config));
  model->device = std::move(backend.device);
  model->memory = std::move(backend.memory);
  if (options.weights == "file") {
    ASSIGN_OR_RETURN(model->dense, LoadDenseModules(options.model_dir, model->config));
  }
  return model;
}

absl::StatusOr<DType> ParseActivationDType(const std::string& name, DType automatic) {
  if (name == "auto") return automatic;
  if (name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype is \"", name, "\", expected auto, float32, bfloat16 or float16"));
}

absl::StatusOr<DType> ParseCacheDType(const std::string& name, DType automatic) {
  if (name == "auto") return automatic;
  if (name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  if (name == "int8") return DType::kInt8;
  return absl::InvalidArgumentError(absl::StrCat(
      "kv_dtype is \"", name, "\", expected auto, float32, bfloat16, float16 or int8"));
}

}  // namespace penstock
