// What callers may do, and what a route asks of them.
// Owns nothing. Must not know who a caller is or how that was proved.
// Threads: values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

namespace penstock {

enum class Permission : uint8_t {
  kInfer,         // infer: use models
  kReadMetrics,   // metrics.read
  kConfig,        // config: read and reload the configuration
  kModel,         // model: load and unload models and adapters
  kRollout,       // rollout
  kKeys,          // keys: API keys and tenants
  kJob,           // job
  kOperate,       // operate: drain, maintenance, logs
  kReadAudit,     // audit.read
  kEraseSubject,  // subject.erase
};
inline constexpr int kNumPermissions = 10;

std::string_view NameOf(Permission permission);
/// None where there is no such permission.
std::optional<Permission> FindPermission(std::string_view name);
std::vector<std::string_view> PermissionNames();

class Permissions {
 public:
  constexpr Permissions() = default;
  constexpr Permissions(std::initializer_list<Permission> all) {
    for (const Permission permission : all) Add(permission);
  }
  static constexpr Permissions All() {
    Permissions all;
    all.bits_ = (1U << kNumPermissions) - 1;
    return all;
  }
  constexpr void Add(Permission permission) { bits_ |= Bit(permission); }
  constexpr void Add(Permissions others) { bits_ |= others.bits_; }
  constexpr bool has(Permission permission) const { return (bits_ & Bit(permission)) != 0; }
  friend bool operator==(Permissions, Permissions) = default;

 private:
  static constexpr uint32_t Bit(Permission permission) {
    return 1U << static_cast<unsigned>(permission);
  }
  uint32_t bits_ = 0;
};

/// Who may call a route. There is none by default, so a route cannot be added without one.
class RouteAccess {
 public:
  /// Everyone, without a credential.
  static constexpr RouteAccess Open() { return {}; }
  static constexpr RouteAccess Needs(Permission permission) { return {permission, false}; }
  /// This machine without a credential, others with the permission.
  static constexpr RouteAccess NeedsUnlessLocal(Permission permission) {
    return {permission, true};
  }
  constexpr bool open() const { return !permission_; }
  constexpr bool open_to_local() const { return local_; }
  constexpr Permission permission() const { return *permission_; }  // not of an open one

 private:
  constexpr RouteAccess() = default;
  constexpr RouteAccess(Permission permission, bool local)
      : permission_(permission), local_(local) {}
  std::optional<Permission> permission_;
  bool local_ = false;
};

}  // namespace penstock
