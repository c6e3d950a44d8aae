// The models that are served, fixed at start.
// Owns the list. Must not know how models are loaded.
// Threads: immutable.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "penstock/service.h"

namespace penstock {

class StaticRegistry final : public ModelRegistry {
 public:
  /// Of two models with one name the first is found.
  explicit StaticRegistry(std::vector<std::shared_ptr<const ServedModel>> models);
  std::shared_ptr<const ServedModel> Find(std::string_view name) const override;
  std::vector<std::shared_ptr<const ServedModel>> List() const override { return models_; }

 private:
  std::vector<std::shared_ptr<const ServedModel>> models_;
  std::map<std::string, std::shared_ptr<const ServedModel>, std::less<>> by_name_;
};

}  // namespace penstock
