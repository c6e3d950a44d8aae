#include "service/adapter_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "service/call_error.h"

namespace penstock {

std::shared_ptr<const ServedModel> AdapterRegistry::FindOwn(std::string_view name) const {
  if (auto model = models_.Find(name)) return model;
  for (const auto& pool : pools_) {
    if (auto model = pool->Find(name)) return model;
  }
  return nullptr;
}

std::shared_ptr<const ServedModel> AdapterRegistry::Find(std::string_view name) const {
  if (auto model = FindOwn(name)) return model;
  const std::shared_ptr<const Pointers> pointers = pointers_.Get();
  const auto pointer = pointers->find(name);
  return pointer == pointers->end() ? nullptr : FindOwn(pointer->second);
}

std::string AdapterRegistry::Meaning(std::string_view name) const {
  const std::shared_ptr<const Pointers> pointers = pointers_.Get();
  const auto pointer = pointers->find(name);
  return pointer != pointers->end() && FindOwn(name) == nullptr ? pointer->second
                                                                : std::string(name);
}

ModelRegistry::Found AdapterRegistry::FindToServe(std::string_view name) const {
  const std::string meant = Meaning(name);
  if (auto model = models_.Find(meant)) return model;
  for (const auto& pool : pools_) {
    ASSIGN_OR_RETURN(auto model, pool->FindToServe(meant));
    if (model != nullptr) return model;
  }
  return std::shared_ptr<const ServedModel>();
}

std::vector<std::shared_ptr<const ServedModel>> AdapterRegistry::List() const {
  auto all = models_.List();
  for (const auto& pool : pools_) {
    auto adapters = pool->List();
    std::move(adapters.begin(), adapters.end(), std::back_inserter(all));
  }
  std::map<std::string, std::vector<std::string>> further;
  const std::shared_ptr<const Pointers> pointers = pointers_.Get();
  for (const auto& [name, to] : *pointers) {
    const auto model = FindOwn(name) == nullptr ? FindOwn(to) : nullptr;
    if (model != nullptr) further[model->name].push_back(name);
  }
  for (auto& model : all) {
    const auto names = further.find(model->name);
    if (names == further.end()) continue;
    auto named = std::make_shared<ServedModel>(*model);
    named->aliases.insert(named->aliases.end(), names->second.begin(), names->second.end());
    model = std::move(named);
  }
  return all;
}

absl::StatusOr<AdapterPool*> AdapterRegistry::PoolOf(const std::optional<std::string>& base,
                                                     AdapterCaller caller) const {
  std::vector<AdapterPool*> candidates;
  for (const auto& pool : pools_) {
    if (base ? pool->base().name == *base
             : pool->allows_runtime() || caller == AdapterCaller::kOperator)
      candidates.push_back(pool.get());
  }
  if (candidates.size() == 1) return candidates.front();
  if (base && models_.Find(*base) == nullptr) {
    return WithField(
        absl::NotFoundError(absl::StrCat("the model \"", Shown(*base), "\" does not exist")),
        "base_model_name");
  }
  if (candidates.empty()) {
    return absl::PermissionDeniedError(
        "adapters are not loaded or unloaded by clients of this server (lora.allow_runtime)");
  }
  return InvalidField("base_model_name",
                      "base_model_name is missing: several models take adapters");
}

absl::Status AdapterRegistry::Load(const std::optional<std::string>& base, const std::string& name,
                                   const std::string& path, bool in_place,
                                   AdapterCaller caller) const {
  ASSIGN_OR_RETURN(AdapterPool* const pool, PoolOf(base, caller));
  bool taken = models_.Find(name) != nullptr ||
               (pointers_.Get()->contains(name) && FindOwn(name) == nullptr);
  for (const auto& other : pools_)
    taken = taken || (other.get() != pool && other->Find(name) != nullptr);
  if (taken)
    return InvalidField("lora_name",
                        absl::StrCat("the name \"", Shown(name), "\" is a model's already"));
  return pool->Load(name, path, in_place, caller);
}

void AdapterRegistry::Unload(const std::string& name, std::function<void(absl::Status)> done,
                             AdapterCaller caller) const {
  AdapterPool* owner = nullptr;
  for (const auto& pool : pools_) {
    if (pool->Find(name) != nullptr) owner = pool.get();
  }
  if (owner != nullptr) return owner->Unload(name, std::move(done), caller);
  const absl::StatusOr<AdapterPool*> any = PoolOf(std::nullopt, caller);
  if (!any.ok() && any.status().code() == absl::StatusCode::kPermissionDenied)
    return done(any.status());
  done(WithField(
      absl::NotFoundError(absl::StrCat("the adapter \"", Shown(name), "\" is not loaded")),
      "lora_name"));
}

void AdapterRegistry::Export(Catalogue& catalogue, absl::Time now) const {
  for (const auto& pool : pools_) pool->Export(catalogue, now);
}

}  // namespace penstock
