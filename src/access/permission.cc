#include "access/permission.h"

#include <algorithm>
#include <array>

namespace penstock {
namespace {

constexpr std::array<std::string_view, kNumPermissions> kPermissionNames = {
    "infer", "metrics.read", "config",  "model",      "rollout",
    "keys",  "job",          "operate", "audit.read", "subject.erase"};

}  // namespace

std::string_view NameOf(Permission permission) {
  return kPermissionNames[static_cast<size_t>(permission)];
}

std::optional<Permission> FindPermission(std::string_view name) {
  const auto it = std::find(kPermissionNames.begin(), kPermissionNames.end(), name);
  if (it == kPermissionNames.end()) return std::nullopt;
  return static_cast<Permission>(it - kPermissionNames.begin());
}

std::vector<std::string_view> PermissionNames() {
  return {kPermissionNames.begin(), kPermissionNames.end()};
}

}  // namespace penstock
