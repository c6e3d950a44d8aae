// Everything of accounts that a server has: what tenants use, limits shared with other servers, the
// audit log.
// Owns all of it. Must not know listeners or models.
// Threads: Open is confined to the main thread; the rest is thread-safe.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/live.h"
#include "ledger/audit_loop.h"
#include "ledger/usage_loop.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"
#include "service/shared_limits_loop.h"

namespace penstock {

class AccountParts {
 public:
  /// A Redis or a state file that cannot be reached is logged and no error. `config` outlives this.
  static absl::StatusOr<std::unique_ptr<AccountParts>> Open(const Live<ServerConfig>* config,
                                                            Catalogue* catalogue);

  const std::shared_ptr<UsageBook>& usage() const { return usage_->book(); }
  /// Null where each server gives limits by itself.
  const std::shared_ptr<SharedLimitsLoop>& shared_limits() const { return shared_limits_; }
  AuditLoop* audit() const { return audit_.get(); }  // null: there is none
  /// Requests must not be taken, as what they do could not be recorded.
  bool audit_blocks() const;

 private:
  const Live<ServerConfig>* config_ = nullptr;
  std::unique_ptr<AuditLoop> audit_;
  std::unique_ptr<UsageLoop> usage_;
  std::shared_ptr<SharedLimitsLoop> shared_limits_;
};

}  // namespace penstock
