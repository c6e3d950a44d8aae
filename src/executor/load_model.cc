#include "executor/load_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/make_backend.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "executor/check_device.h"
#include "executor/kv_cache.h"
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

/// What several ranks cannot do, whatever the model. Errors name the option.
absl::Status CheckRanks(const LoadOptions& options, const ModelConfig& config) {
  const int32_t size = options.tensor_parallel;
  if (size < 1 || size > 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor_parallel is ", size, ", expected 1 to 8 ranks"));
  }
  if (size == 1) return absl::OkStatus();
  if (!options.packed_cache.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        "tensor_parallel: ", size, ": packed_cache keeps the weights of one rank alone, unset it"));
  }
  return CheckShards(config, size);
}

/// An equal part of the threads, one at least, on their part of the CPUs.
std::unique_ptr<WorkerPool> PoolOf(const WorkerPool& all, const ModelShard& shard) {
  const int threads = std::max(1, all.num_threads() / shard.size);
  std::vector<int> cpus;
  for (int i = 0; i < threads && !all.cpus().empty(); ++i)
    cpus.push_back(all.cpus()[(shard.rank * threads + i) % all.cpus().size()]);
  return std::make_unique<WorkerPool>(threads, std::move(cpus));
}

/// On the CPU each rank has a part of the threads; on a GPU all of them pack its weights, and rank 0
/// is `first`, where tokens are drawn.
absl::Status OpenRank(const LoadOptions& options, const ModelShard& shard, Device& first,
                      LoadedModel& model) {
  LoadedRank& own = model.ranks.emplace_back();
  own.config = ShardOf(model.config, shard);
  LoadOptions mine = options;
  mine.device = DeviceOfRank(std::string(first.name()), shard.rank);
  if (first.shares_host_memory()) {
    own.pool = PoolOf(*options.pool, shard);
    mine.pool = own.pool.get();
  } else if (shard.rank == 0) {
    own.device = &first;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(OpenedBackend backend, OpenFor(model.config, mine));
  model.absent.Update(backend.absent);
  own.own_device = std::move(backend.device);
  own.device = own.own_device.get();
  own.memory = std::move(backend.memory);
  return absl::OkStatus();
}

/// Of ranks with a device each: they take as much of each.
DeviceMemory MemoryOfRanks(const LoadedModel& model, DeviceMemory least) {
  for (const LoadedRank& rank : model.ranks) {
    const DeviceMemory own = rank.memory ? rank.memory() : least;
    least = {std::min(least.free, own.free), std::min(least.total, own.total)};
  }
  return {least.free * model.num_devices, least.total * model.num_devices};
}

absl::Status LoadRanks(const LoadOptions& options, TensorSource& source, Device& first,
                       LoadedModel& model) {
  const int32_t size = options.tensor_parallel;
  for (int32_t rank = 0; rank < size; ++rank) {
    const ModelShard shard{rank, size};
    const auto refuse = [&](const absl::Status& why) {
      return absl::Status(why.code(), absl::StrCat("tensor_parallel: ", size, ", rank ", rank, ": ",
                                                   why.message()));
    };
    const absl::Status opened = OpenRank(options, shard, first, model);
    if (!opened.ok()) return refuse(opened);
    LoadedRank& own = model.ranks.back();
    const auto progress = [&](std::string_view what, int64_t done, int64_t total) {
      options.progress(what, rank * total + done, size * total);
    };
    absl::StatusOr<ModelWeights> weights =
        LoadWeights(model.config, source, *own.device,
                    options.progress ? LoadProgress(progress) : LoadProgress(), shard);
    if (!weights.ok()) return refuse(weights.status());
    own.weights = *std::move(weights);
  }
  return absl::OkStatus();
}

/// What may guess for the model; one that cannot is no error unless it was asked for.
absl::Status LoadHead(const LoadOptions& options, TensorSource& source, Device& device,
                      LoadedModel& model) {
  if (options.heads == LoadHeads::kNone) return absl::OkStatus();
  const bool required = options.heads == LoadHeads::kRequired;
  const auto load = [&]() -> absl::StatusOr<std::unique_ptr<PredictionHead>> {
    RETURN_IF_ERROR(CanPredict(model.config, source));
    // On the host what is not used takes nothing.
    if (!required && StateBytes(model.config) > 0 && !device.shares_host_memory()) {
      return absl::UnimplementedError(
          "the device would hold each recurrent state twice: engine.speculation.method: mtp asks "
          "for that");
    }
    if (model.ranks.empty()) return LoadPredictionHead(model.config, model.weights, source, device);
    return absl::UnimplementedError(
        "tensor_parallel is above 1, a head guesses for one rank alone");
  };
  absl::StatusOr<std::unique_ptr<PredictionHead>> head = load();
  if (!head.ok()) {
    if (absl::IsDataLoss(head.status())) return head.status();
    if (required) {
      return absl::Status(head.status().code(), absl::StrCat("engine.speculation.method: mtp: ",
                                                             head.status().message()));
    }
    model.no_head = std::string(head.status().message());
    return absl::OkStatus();
  }
  model.head = *std::move(head);
  return absl::OkStatus();
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
  model->absent = backend.absent;
  RETURN_IF_ERROR(CheckRanks(options, model->config));
  // The file holds what lies in the host's memory.
  const bool cached =
      !options.packed_cache.empty() && backend.device->shares_host_memory() && !options.planning;
  if (options.tensor_parallel > 1) {
    RETURN_IF_ERROR(LoadRanks(options, *opened.source, *backend.device, *model));
  } else if (files.empty() || !cached) {
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
  RETURN_IF_ERROR(LoadHead(options, *opened.source, *backend.device, *model));
  ASSIGN_OR_RETURN(model->unread, FindUnread(options.model_dir, *opened.source, model->config));
  model->device = std::move(backend.device);
  model->memory = std::move(backend.memory);
  const std::string name(model->device->name());
  if (options.tensor_parallel > 1 && DeviceOfRank(name, 0) != DeviceOfRank(name, 1)) {
    model->num_devices = options.tensor_parallel;
    if (model->memory) {
      model->memory = [model = model.get(), first = std::move(model->memory)] {
        return MemoryOfRanks(*model, first());
      };
    }
  }
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
