#include "access/role_table.h"

#include <atomic>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace penstock {

std::string_view NameOf(Refusal refusal) {
  constexpr std::string_view kNames[] = {"missing", "unknown", "expired",     "revoked",
                                         "address", "token",   "certificate", "permission"};
  return kNames[static_cast<size_t>(refusal)];
}

absl::StatusOr<RoleTable> RoleTable::Make(
    const std::map<std::string, std::vector<std::string>>& roles) {
  static std::atomic<uint64_t> next_id{1};
  RoleTable out;
  out.id_ = next_id.fetch_add(1, std::memory_order_relaxed);
  for (const auto& [role, names] : roles) {
    Permissions& permissions = out.roles_[role];
    for (const std::string& name : names) {
      const std::optional<Permission> permission = FindPermission(name);
      if (permission) {
        permissions.Add(*permission);
      } else if (name == "*") {
        permissions = Permissions::All();
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat("roles.", role, ": '", name, "' is no permission; expected * or some of ",
                         absl::StrJoin(PermissionNames(), ", ",
                                       [](std::string* s, std::string_view n) { s->append(n); })));
      }
    }
  }
  return out;
}

Permissions RoleTable::Of(const std::vector<std::string>& roles) const {
  Permissions out;
  for (const std::string& role : roles) {
    if (const auto it = roles_.find(role); it != roles_.end()) out.Add(it->second);
  }
  return out;
}

}  // namespace penstock
