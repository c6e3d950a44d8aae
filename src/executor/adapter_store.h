// The adapters of one model that can be computed with, by number.
// Owns their weights, within a budget stated when it is made. Must not know names, requests or
// which one goes when there is no room.
// Threads: thread-safe; loading takes long and is one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/worker_pool.h"
#include "model/adapter_weights.h"
#include "penstock/types.h"

namespace penstock {

struct AdapterOptions {
  int32_t max_adapters = 0;  // that exist at once; 0: none are supported
  int32_t max_in_step = 0;   // different ones in one step
  AdapterBounds bounds;
  std::string cpu_kernels = "auto";  // those of the model
  DType numbers = DType::kBFloat16;  // of 16 bits, those of the model's device
  WorkerPool* pool = nullptr;        // outlives the store
  OpenBase open_base;                // the model's own tensors
  int64_t host_bytes = 0;            // of files kept beside a device with a memory of its own
};

class AdapterStore {
 public:
  /// For `config` on `device`; UNIMPLEMENTED names what of the model cannot be adapted.
  static absl::StatusOr<std::shared_ptr<AdapterStore>> Make(const ModelConfig& config,
                                                            const Device& device,
                                                            const AdapterOptions& options);

  /// Reads PEFT's `dir`; RESOURCE_EXHAUSTED where max_adapters are there. `id` was never used.
  absl::Status Load(AdapterId id, const std::string& dir);
  /// null: not there.
  std::shared_ptr<const AdapterWeights> Find(AdapterId id) const;
  /// Whoever has found it before may go on with it.
  void Remove(AdapterId id);

  const AdapterOptions& options() const { return options_; }
  /// What all adapters together take at most, and what a decoder keeps to compute them in steps of
  /// `max_rows` rows.
  int64_t MaxBytes(int32_t max_rows) const;
  int64_t max_columns() const { return MaxAdapterColumns(config_, options_.bounds.max_rank); }

 private:
  AdapterStore(const ModelConfig& config, const Device& device, const AdapterOptions& options);

  const ModelConfig config_;
  const std::string device_;  // of the model
  const AdapterOptions options_;
  std::mutex load_mutex_;                   // held while one is read; guards files_
  std::unique_ptr<AdapterFilePool> files_;  // null: the device has the host's memory
  mutable std::mutex mutex_;                // guards adapters_
  std::map<AdapterId, std::shared_ptr<const AdapterWeights>> adapters_;
};

}  // namespace penstock
