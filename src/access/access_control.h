// Finds out who makes a call and whether it may: the one gate of HTTP and gRPC.
// Owns the rules of the moment. Must not know routes, sockets or files.
// Threads: thread-safe; no look-up waits for a disk or a network.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "access/ip_address.h"
#include "access/key_table.h"
#include "access/principal.h"
#include "access/role_table.h"
#include "access/token_issuers.h"
#include "penstock/config.h"

namespace penstock {

/// What is known of a caller before anything is proved.
struct Caller {
  std::string_view credential;  // a key or token, with or without "Bearer "; empty: none
  IpAddress address;            // of the other side of the connection
  bool local = false;           // on this machine, and not by way of a proxy
  bool by_socket = false;       // by a file that only those can open who may do everything
  const std::vector<std::string>* names = nullptr;  // of a verified certificate; null: none
  bool certificate_refused = false;  // it was good when the connection began, and is no more
};

/// A pattern of certificates' names, in which * stands for any text, and who shows them.
struct CertificateRule {
  std::string pattern;
  PrincipalPtr principal;  // key_id and owner are the name's
};
/// The rule with the longest pattern that a name matches; null: none.
PrincipalPtr FindByNames(const std::vector<CertificateRule>& rules,
                         const std::vector<std::string>& names);

/// A caller that is turned away. `principal` null: it is not known who it is; `path` empty: not one
/// of HTTP.
struct RefusedCall {
  Refusal refusal;
  const Caller& caller;
  const Principal* principal = nullptr;
  std::string_view path;
};
using RefusalFn = std::function<void(const RefusedCall&)>;

/// All that decides, from one configuration.
struct AccessRules {
  RoleTable roles;
  std::set<std::string, std::less<>> open_routes;
  absl::flat_hash_map<std::string, PrincipalPtr> shared_keys;  // by the key's SHA-256
  std::vector<CertificateRule> certificates;
  PrincipalPtr operators;     // of the admin socket
  bool has_key_file = false;  // keys of the state file are asked for
  PrincipalPtr anonymous;     // of callers without a credential; null: they are turned away
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
  /// What Admit would say, and nobody is told: a large request is judged before all of it is here.
  bool WouldAdmit(const Caller& caller, RouteAccess access, std::string_view path) const;
  /// Calls from now on follow these rules.
  void SetRules(std::shared_ptr<const AccessRules> rules);
  /// The keys of the state file from now on; until the first time there are none.
  void SetKeys(KeyRecords records, std::string pepper);
  /// The issuers of tokens with their keys of the moment.
  void SetIssuers(std::shared_ptr<const TokenIssuers> issuers);
  /// Told of each caller that is turned away. Before the first call.
  void set_on_refusal(RefusalFn f) { on_refusal_ = std::move(f); }

 private:
  struct State {
    std::shared_ptr<const AccessRules> rules;
    std::shared_ptr<const KeyTable> keys;         // null: none yet
    std::shared_ptr<const TokenIssuers> issuers;  // null: no tokens
  };
  State state() const;
  /// `tell` is told of a refusal; it may be null.
  static Found IdentifyBy(const State& state, const Caller& caller, std::string_view path,
                          const RefusalFn& tell);
  static absl::Status Refuse(const RefusedCall& call, std::string_view message,
                             const RefusalFn& tell);
  Found AdmitBy(const Caller& caller, RouteAccess access, std::string_view path,
                const RefusalFn& tell) const;

  mutable std::mutex mutex_;
  State state_;         // guarded by mutex_
  std::string pepper_;  // likewise
  RefusalFn on_refusal_;
};

}  // namespace penstock
