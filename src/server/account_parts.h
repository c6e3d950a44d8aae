// Everything of accounts that a server has: what tenants use, limits shared with other servers.
// Owns all of it. Must not know listeners or models.
// Threads: Open is confined to the main thread; the rest is thread-safe.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "ledger/usage_loop.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"
#include "service/shared_limits_loop.h"

namespace penstock {

class AccountParts {
 public:
  /// A Redis or a state file that cannot be reached is logged and no error.
  static absl::StatusOr<std::unique_ptr<AccountParts>> Open(const ServerConfig& config,
                                                            Catalogue* catalogue);

  const std::shared_ptr<UsageBook>& usage() const { return usage_->book(); }
  /// Null where each server gives limits by itself.
  const std::shared_ptr<SharedLimitsLoop>& shared_limits() const { return shared_limits_; }

 private:
  std::unique_ptr<UsageLoop> usage_;
  std::shared_ptr<SharedLimitsLoop> shared_limits_;
};

}  // namespace penstock
