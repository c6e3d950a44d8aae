#include "executor/adapter_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/make_backend.h"
#include "base/status_macros.h"

namespace penstock {

absl::StatusOr<std::shared_ptr<AdapterStore>> AdapterStore::Make(const ModelConfig& config,
                                                                 const Device& device,
                                                                 const AdapterOptions& options) {
  if (config.encoder.present)
    return absl::UnimplementedError("lora: encoders cannot be adapted; leave lora out");
  return std::shared_ptr<AdapterStore>(new AdapterStore(config, device, options));
}

AdapterStore::AdapterStore(const ModelConfig& config, const Device& device,
                           const AdapterOptions& options)
    : config_(config), device_(device.name()), options_(options) {
  if (!device.shares_host_memory() && options.host_bytes > 0)
    files_ = std::make_unique<AdapterFilePool>(options.host_bytes);
}

absl::Status AdapterStore::Load(AdapterId id, const std::string& dir) {
  const std::lock_guard one_at_a_time(load_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (static_cast<int32_t>(adapters_.size()) >= options_.max_adapters) {
      return absl::ResourceExhaustedError(
          absl::StrCat(options_.max_adapters, " adapters are loaded, the most that may be"));
    }
  }
  // The same device, opened by itself: it is loaded beside the steps, which are another thread's.
  BackendOptions own{device_, options_.pool, options_.cpu_kernels};
  own.numbers = options_.numbers;
  ASSIGN_OR_RETURN(const OpenedBackend backend, OpenBackend(own));
  ASSIGN_OR_RETURN(AdapterWeights weights,
                   LoadAdapter(dir, config_, *backend.device, options_.bounds, options_.open_base,
                               files_.get()));
  if (const int64_t most = MaxAdapterBytes(config_, options_.bounds); weights.num_bytes > most) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir, " takes ", weights.num_bytes, " bytes, an adapter has at most ", most));
  }
  RETURN_IF_ERROR(backend.device->Synchronize());  // before the steps' stream reads it
  const std::lock_guard lock(mutex_);
  adapters_[id] = std::make_shared<const AdapterWeights>(std::move(weights));
  return absl::OkStatus();
}

std::shared_ptr<const AdapterWeights> AdapterStore::Find(AdapterId id) const {
  const std::lock_guard lock(mutex_);
  const auto it = adapters_.find(id);
  return it == adapters_.end() ? nullptr : it->second;
}

void AdapterStore::Remove(AdapterId id) {
  const std::lock_guard lock(mutex_);
  adapters_.erase(id);
}

int64_t AdapterStore::MaxBytes(int32_t max_rows) const {
  return options_.max_adapters * MaxAdapterBytes(config_, options_.bounds) +
         AdapterStepBytes(config_, options_.bounds.max_rank, max_rows);
}

}  // namespace penstock
