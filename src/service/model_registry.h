// The models that are served, fixed at start but for their further names.
// Owns the list. Must not know how models are loaded.
// Threads: thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/live.h"
#include "penstock/service.h"

namespace penstock {

class StaticRegistry final : public ModelRegistry {
 public:
  /// Of two models with one name the first is found.
  explicit StaticRegistry(std::vector<std::shared_ptr<const ServedModel>> models);
  std::shared_ptr<const ServedModel> Find(std::string_view name) const override;
  std::vector<std::shared_ptr<const ServedModel>> List() const override {
    return table_.Get()->models;
  }
  /// Gives models (by name) other aliases; who holds a model keeps what it got.
  void SetAliases(const std::map<std::string, std::vector<std::string>>& aliases);

 private:
  struct Table {
    std::vector<std::shared_ptr<const ServedModel>> models;
    std::map<std::string, std::shared_ptr<const ServedModel>, std::less<>> by_name;
  };
  static Table MakeTable(std::vector<std::shared_ptr<const ServedModel>> models);

  Live<Table> table_;
};

}  // namespace penstock
