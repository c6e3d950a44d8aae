// The adapters of one model by their names: which are in memory, which must make room, which a
// client may load.
// Owns their names and the decision who goes; the weights lie behind `read`. Must not know tensors,
// JSON or sockets.
// Threads: thread-safe. What loads an adapter takes long: on a text worker only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "penstock/config.h"
#include "penstock/service.h"

namespace penstock {

class Catalogue;

struct AdapterPoolParts {
  std::shared_ptr<const ServedModel> base;  // its engine outlives the pool
  LoraConfig lora;
  /// Reads the weights in a directory into memory, for the engine to find under this number.
  std::function<absl::Status(AdapterId, const std::string& dir)> read;
  /// They are not wanted after all: the engine was never told of them. May be empty.
  std::function<void(AdapterId)> forget;
  /// (what happened, the adapter, its directory), for the log. May be empty.
  std::function<void(std::string_view what, std::string_view name, std::string_view dir)> report;
};

/// Who wishes an adapter loaded or unloaded: operators need no lora.allow_runtime.
enum class AdapterCaller : uint8_t { kClient, kOperator };

class AdapterPool : public std::enable_shared_from_this<AdapterPool> {
 public:
  using Model = std::shared_ptr<const ServedModel>;

  explicit AdapterPool(AdapterPoolParts parts) : parts_(std::move(parts)) {}

  /// Those of the configuration; the first error names its adapter.
  absl::Status LoadConfigured();
  /// Of those that were loaded and not unloaded, whether or not in memory now; null: none.
  Model Find(std::string_view name) const;
  std::vector<Model> List() const;
  /// In memory from now on for as long as somebody has the model: from the pool, else from its
  /// directory, else from lora.dir. Null where there is none of this name; RESOURCE_EXHAUSTED where
  /// max_host_adapters are in use.
  absl::StatusOr<Model> FindToServe(std::string_view name);

  /// A client's wish; `path` must lie in lora.dir, or is one below it. PERMISSION_DENIED where
  /// lora.allow_runtime is not set, INVALID_ARGUMENT where the name is taken, unless `in_place`:
  /// then requests from now on have the new one.
  absl::Status Load(const std::string& name, const std::string& path, bool in_place,
                    AdapterCaller caller = AdapterCaller::kClient);
  /// No request can name it from now on. `done` follows once those that do have ended, or at once
  /// where it is refused; on any thread.
  void Unload(const std::string& name, std::function<void(absl::Status)> done,
              AdapterCaller caller = AdapterCaller::kClient);

  /// What the metrics say of requests with adapters.
  void Export(Catalogue& catalogue, absl::Time now) const;

  const ServedModel& base() const { return *parts_.base; }
  bool allows_runtime() const { return parts_.lora.allow_runtime; }

 private:
  struct Entry {
    std::string dir;
    Model model;
    bool loaded = false;
    bool on_demand = false;  // forgotten with its weights
    uint64_t last_use = 0;
  };

  absl::Status CheckRuntime(AdapterCaller caller) const;
  /// `path` without links, where it lies in lora.dir with all that is read of it.
  absl::StatusOr<std::string> Contained(std::string_view path) const;
  absl::Status MakeRoom();
  /// Loads and enters it, in place of what has the name; load_mutex_ is held.
  absl::StatusOr<Model> Bring(const std::string& name, const std::string& dir, bool on_demand);
  void Retire(AdapterId id, std::function<void(absl::Status)> done);
  void Report(std::string_view what, std::string_view name, std::string_view dir) const;

  const AdapterPoolParts parts_;
  std::mutex load_mutex_;     // held while one is loaded; before mutex_
  mutable std::mutex mutex_;  // guards from here
  std::map<std::string, Entry, std::less<>> entries_;
  int32_t num_in_memory_ = 0;  // loaded, or on their way in or out
  int32_t next_id_ = 0;
  uint64_t clock_ = 0;  // of last_use
};

}  // namespace penstock
