#include "service/model_registry.h"

#include <utility>

namespace penstock {

StaticRegistry::StaticRegistry(std::vector<std::shared_ptr<const ServedModel>> models)
    : table_(MakeTable(std::move(models))) {}

StaticRegistry::Table StaticRegistry::MakeTable(
    std::vector<std::shared_ptr<const ServedModel>> models) {
  Table table;
  table.models = std::move(models);
  for (const auto& model : table.models) {
    table.by_name.emplace(model->name, model);
    for (const std::string& alias : model->aliases) table.by_name.emplace(alias, model);
  }
  return table;
}

std::shared_ptr<const ServedModel> StaticRegistry::Find(std::string_view name) const {
  const auto table = table_.Get();
  const auto it = table->by_name.find(name);
  return it == table->by_name.end() ? nullptr : it->second;
}

void StaticRegistry::SetAliases(const std::map<std::string, std::vector<std::string>>& aliases) {
  auto models = table_.Get()->models;
  for (std::shared_ptr<const ServedModel>& model : models) {
    const auto wanted = aliases.find(model->name);
    if (wanted == aliases.end() || wanted->second == model->aliases) continue;
    auto renamed = std::make_shared<ServedModel>(*model);
    renamed->aliases = wanted->second;
    model = std::move(renamed);
  }
  table_.Set(MakeTable(std::move(models)));
}

}  // namespace penstock
