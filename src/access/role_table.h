// What the roles of callers may, and why a caller is turned away.
// Owns the table. Must not know who has which role.
// Threads: immutable.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "access/permission.h"

namespace penstock {

/// The reasons of penstock_auth_failures_total.
enum class Refusal : uint8_t {
  kMissing,
  kUnknown,
  kExpired,
  kRevoked,
  kAddress,
  kToken,
  kCertificate,
  kPermission,
};
std::string_view NameOf(Refusal refusal);

class RoleTable {
 public:
  /// INVALID_ARGUMENT names a role and what it holds that is no permission.
  static absl::StatusOr<RoleTable> Make(const std::map<std::string, std::vector<std::string>>&);
  /// What all of `roles` may; a role that is not in the table may nothing.
  Permissions Of(const std::vector<std::string>& roles) const;
  /// Differs between tables that were made apart.
  uint64_t id() const { return id_; }
  bool has(const std::string& role) const { return roles_.contains(role); }

 private:
  std::map<std::string, Permissions> roles_;
  uint64_t id_ = 0;
};

}  // namespace penstock
