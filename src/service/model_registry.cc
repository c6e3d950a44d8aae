#include "service/model_registry.h"

#include <utility>

namespace penstock {

StaticRegistry::StaticRegistry(std::vector<std::shared_ptr<const ServedModel>> models)
    : models_(std::move(models)) {
  for (const auto& model : models_) {
    by_name_.emplace(model->name, model);
    for (const std::string& alias : model->aliases) by_name_.emplace(alias, model);
  }
}

std::shared_ptr<const ServedModel> StaticRegistry::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

}  // namespace penstock
