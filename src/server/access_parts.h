// Everything of access that a server has: the gate, its files and who watches them.
// Owns all of it. Must not know listeners or models.
// Threads: Open is confined to the main thread; the rest is thread-safe.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "access/access_control.h"
#include "access/access_loop.h"
#include "access/key_admin.h"
#include "access/remote_key_sets.h"
#include "access/tls_files.h"
#include "ledger/audit_loop.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"

namespace penstock {

class AccessParts {
 public:
  /// Reads every file that access depends on. A state file that cannot be read is logged and admits
  /// nobody by its keys; what else is wrong is an error in one line. `audit` (null: none) hears of
  /// callers that are turned away and of keys that change.
  static absl::StatusOr<std::unique_ptr<AccessParts>> Open(const ServerConfig& config,
                                                           Catalogue* catalogue, AuditLoop* audit);

  const AccessControl& control() const { return *control_; }
  /// Calls from now on follow auth, roles and server.open_routes of `config`; on an error, one
  /// line, they go on as before. Files of tls, jwt and api_keys stay those of the start.
  absl::Status Reconfigure(const ServerConfig& config);
  const KeyAdmin* keys() const { return keys_.get(); }  // null: none are kept
  void CheckFilesNow() { loop_.Wake(); }
  /// Null without tls. The second asks clients for a certificate whatever tls.client_auth says.
  const TlsFiles* tls() const { return tls_.get(); }
  const TlsFiles* admin_tls() const { return admin_tls_.get(); }

 private:
  void ShowEnds();
  void ShowBreakGlass(const KeyRecords& records);
  absl::Status OpenTls(const ServerConfig& config, Catalogue& catalogue);
  absl::Status OpenIssuers(const AuthSection& auth);

  std::unique_ptr<AccessControl> control_;
  std::unique_ptr<KeyAdmin> keys_;
  std::unique_ptr<TlsFiles> tls_, admin_tls_;
  GaugeHandle certificate_end_, lists_end_, break_glass_keys_;
  int break_glass_told_ = 0;                    // keys, as the log knows
  std::unique_ptr<RemoteKeySets> remote_keys_;  // null: no issuer has a URL
  AccessLoop loop_;                             // its thread ends before what it looks at
  std::unique_ptr<AccessLoop> fetches_;         // of remote_keys_; wakes loop_, so it ends first
};

}  // namespace penstock
