// Reads a model directory onto a device.
// Owns config, weights and the device. Must not know steps, slots or the KV cache.
// Threads: confined to one rank's thread after loading.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/device_abilities.h"
#include "backend/device_memory.h"
#include "base/worker_pool.h"
#include "model/dense_modules.h"
#include "model/model_config.h"
#include "model/prediction_head.h"
#include "model/unread_tensors.h"
#include "model/weights.h"
#include "penstock/backend.h"

namespace penstock {

/// One rank's part of a model whose layers several share.
struct LoadedRank {
  ModelConfig config;                  // as ShardOf
  std::unique_ptr<WorkerPool> pool;    // of the rank's thread; goes after the device; null: a GPU's
  std::unique_ptr<Device> own_device;  // null: the model's, which draws tokens too
  Device* device = nullptr;
  std::function<DeviceMemory()> memory;  // of own_device
  ModelWeights weights;                  // lies on `device`
};

struct LoadedModel {
  ModelConfig config;
  std::unique_ptr<Device> device;
  ModelWeights weights;                   // lies on `device`; nothing where there are ranks
  std::vector<LoadedRank> ranks;          // none, or two and more; `device` then draws tokens, on
                                          // GPUs it is rank 0's
  std::unique_ptr<PredictionHead> head;   // guesses for the model; null: none is loaded
  std::string no_head;                    // why none is, where one is asked for if there is any
  std::vector<DenseModule> dense;         // over what is pooled of a text
  DType auto_dtype = DType::kFloat32;     // of activations, where nothing else is asked for
  DType auto_kv_dtype = DType::kFloat32;  // of the cache, where neither is
  DeviceAbilities abilities;              // of the device
  std::string kernels;                    // of the device, that compute the linear layers
  std::string note;          // what an operator should know about the device; empty: nothing
  UnreadTensors unread;      // of the checkpoint
  std::string packed_file;   // "read", "written"; empty: neither
  int64_t packed_bytes = 0;  // of that file
  std::function<DeviceMemory()> memory;  // of the devices; empty: it is the host's
  int32_t num_devices = 1;               // that ranks share or have
  absl::Status absent;  // loaded in planning: why a device cannot be opened; OK: all can
};

/// Whether a head that predicts the token after the next is loaded with a model.
enum class LoadHeads : uint8_t { kNone, kIfAny, kRequired };

struct LoadOptions {
  std::string model_dir;                // or a GGUF file
  std::string device = "cpu";           // as BackendOptions
  std::string weights = "file";         // file | formula
  std::string dtype = "auto";           // of activations, as ParseActivationDType
  std::string quantize = "none";        // as ParseRoundingRule
  std::string integer_inputs = "auto";  // auto | on: see EngineConfig
  std::string cpu_kernels = "auto";     // as BackendOptions
  std::string packed_cache;             // folder of packed weights; empty: none are kept
  std::string build;                    // what packs them: another program's are not read
  WorkerPool* pool = nullptr;           // outlives the model
  LoadProgress progress;                // may be empty
  std::string deterministic = "off";    // as BackendOptions
  int32_t tensor_parallel = 1;          // ranks that share each layer
  LoadHeads heads = LoadHeads::kNone;
  bool planning = false;  // onto a PlanningDevice in the device's place
};

/// A model whose weights are not read yet.
struct OpenedModel {
  ModelConfig config;
  std::unique_ptr<TensorSource> source;
  bool bf16_weights = false;  // numbers, no codes
  bool codes = false;         // a checkpoint of weights rounded before; of GGUF files unknown
};

/// `weights` as in LoadOptions.
absl::StatusOr<OpenedModel> OpenModel(const std::string& model_dir, const std::string& weights);

/// Once the network is loaded from `source`; errors as SortUnread's.
absl::StatusOr<UnreadTensors> FindUnread(const std::string& model_dir, const TensorSource& source,
                                         const ModelConfig& config);

/// UNAVAILABLE: there is no such device. UNIMPLEMENTED: the device cannot compute the model.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const LoadOptions& options);

/// "auto": `automatic`, which is LoadedModel's; "float32", "bfloat16", "float16".
absl::StatusOr<DType> ParseActivationDType(const std::string& name, DType automatic);
/// Likewise; also "int8". Where activations were asked for by name, `automatic` is theirs.
absl::StatusOr<DType> ParseCacheDType(const std::string& name, DType automatic);

}  // namespace penstock
