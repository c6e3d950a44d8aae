// Finds out who makes a call and whether it may: the one gate of HTTP and gRPC.
// Owns the rules of the moment. Must not know routes, sockets or files.
// Threads: thread-safe; no look-up waits for a disk or a network.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "access/ip_address.h"
#include "access/principal.h"
#include "penstock/config.h"

namespace penstock {

/// What is known of a caller before anything is proved.
struct Caller {
  std::string_view credential;  // a key or token, with or without "Bearer "; empty: none
  IpAddress address;            // of the other side of the connection
  bool local = false;           // on this machine, and not by way of a proxy
};

/// Why a caller is turned away: the reasons of penstock_auth_failures_total.
enum class Refusal : uint8_t { kMissing, kUnknown, kPermission };
std::string_view NameOf(Refusal refusal);

/// Roles by name.
class RoleTable {
 public:
  /// INVALID_ARGUMENT names a role and what it holds that is no permission.
  static absl::StatusOr<RoleTable> Make(const std::map<std::string, std::vector<std::string>>&);
  /// What all of `roles` may; a role that is not in the table may nothing.
  Permissions Of(const std::vector<std::string>& roles) const;
  bool has(const std::string& role) const { return roles_.contains(role); }

 private:
  std::map<std::string, Permissions> roles_;
};

/// All that decides, from one configuration.
struct AccessRules {
  RoleTable roles;
  std::set<std::string, std::less<>> open_routes;
  absl::flat_hash_map<std::string, PrincipalPtr> shared_keys;  // by the key's SHA-256
  PrincipalPtr anonymous;  // of callers without a credential; null: they are turned away
};
/// INVALID_ARGUMENT in one line.
absl::StatusOr<std::shared_ptr<const AccessRules>> MakeAccessRules(const ServerConfig& config);

class AccessControl {
 public:
  using Found = absl::StatusOr<PrincipalPtr>;
  explicit AccessControl(std::shared_ptr<const AccessRules> rules);

  /// UNAUTHENTICATED, in words for the caller.
  Found Identify(const Caller& caller) const;
  /// Also PERMISSION_DENIED. Null where the route asks nothing of this caller.
  Found Admit(const Caller& caller, RouteAccess access, std::string_view path) const;
  /// Calls from now on follow these rules.
  void SetRules(std::shared_ptr<const AccessRules> rules);
  /// Told of each caller that is turned away. Before the first call.
  void set_on_refusal(std::function<void(Refusal)> f) { on_refusal_ = std::move(f); }

 private:
  std::shared_ptr<const AccessRules> rules() const;
  Found IdentifyBy(const AccessRules& rules, const Caller& caller) const;
  absl::Status Refuse(Refusal refusal, std::string_view message) const;

  mutable std::mutex mutex_;
  std::shared_ptr<const AccessRules> rules_;  // guarded by mutex_
  std::function<void(Refusal)> on_refusal_;
};

}  // namespace penstock
