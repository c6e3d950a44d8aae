// What `penstock admin keys` and /admin/v1/keys do: JSON in, JSON out.
// Owns the pepper. Must not know HTTP or the command line.
// Threads: thread-safe; each call opens the state file, which takes milliseconds.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "access/key_store.h"
#include "access/role_table.h"
#include "base/live.h"

namespace penstock {

class KeyAdmin {
 public:
  KeyAdmin(std::string state_file, std::string pepper, RoleTable roles)
      : state_file_(std::move(state_file)), pepper_(std::move(pepper)), roles_(std::move(roles)) {}
  /// Keys that are made from now on may have these.
  void SetRoles(RoleTable roles) { roles_.Set(std::move(roles)); }

  /// {"tenant", "roles", "models", "expires_in", "cidrs",
  /// "note"} -> the key's fields and, this once, "key".
  absl::StatusOr<std::string> Create(std::string_view body) const;
  /// {"reason"} -> a key of the role admin that is valid for an hour, as Create says it.
  /// RESOURCE_EXHAUSTED where four are valid already.
  absl::StatusOr<std::string> BreakGlass(std::string_view body) const;
  /// {"id", "overlap"}: a new key of the same tenant, roles, models and addresses; the old one is valid for
  /// `overlap` (24h) beside it.
  absl::StatusOr<std::string> Rotate(std::string_view body) const;
  absl::StatusOr<std::string> Revoke(const std::string& id) const;
  absl::StatusOr<std::string> List() const;

 private:
  /// Gives a new record its secret and keeps it; its fields with "key".
  absl::StatusOr<std::string> Insert(KeyStore& store, KeyRecord record) const;

  const std::string state_file_;
  const std::string pepper_;
  Live<RoleTable> roles_;
  mutable std::mutex break_glass_;  // they are counted, then made
};

}  // namespace penstock
