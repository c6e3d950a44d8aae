// The models that are served and their adapters.
// Owns the list. Must not know how either is loaded.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/live.h"
#include "service/adapter_pool.h"
#include "service/model_registry.h"

namespace penstock {

class AdapterRegistry final : public ModelRegistry {
 public:
  /// A model's name goes before an adapter's, and a pool before the next, and all before pointers.
  AdapterRegistry(std::vector<std::shared_ptr<const ServedModel>> models,
                  std::vector<std::shared_ptr<AdapterPool>> pools)
      : models_(std::move(models)), pools_(std::move(pools)) {}

  std::shared_ptr<const ServedModel> Find(std::string_view name) const override;
  Found FindToServe(std::string_view name) const override;
  std::string Meaning(std::string_view name) const override;
  /// Pointers are among the aliases.
  std::vector<std::shared_ptr<const ServedModel>> List() const override;

  /// As StaticRegistry's.
  void SetAliases(const std::map<std::string, std::vector<std::string>>& aliases) {
    models_.SetAliases(aliases);
  }

  /// Further names: each -> a name of a model or an adapter, which may come or be gone. Names that
  /// models, their aliases or adapters have go before.
  using Pointers = std::map<std::string, std::string, std::less<>>;
  void SetPointers(Pointers pointers) { pointers_.Set(std::move(pointers)); }
  /// As Find, pointers left aside.
  std::shared_ptr<const ServedModel> FindOwn(std::string_view name) const;

  /// As AdapterPool's, of the model `base`; without it, of the only one that clients may load for.
  absl::Status Load(const std::optional<std::string>& base, const std::string& name,
                    const std::string& path, bool in_place,
                    AdapterCaller caller = AdapterCaller::kClient) const;
  void Unload(const std::string& name, std::function<void(absl::Status)> done,
              AdapterCaller caller = AdapterCaller::kClient) const;
  void Export(Catalogue& catalogue, absl::Time now) const;

 private:
  absl::StatusOr<AdapterPool*> PoolOf(const std::optional<std::string>& base,
                                      AdapterCaller caller) const;

  StaticRegistry models_;
  std::vector<std::shared_ptr<AdapterPool>> pools_;
  Live<Pointers> pointers_{Pointers()};
};

}  // namespace penstock
