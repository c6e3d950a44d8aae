// Whose tokens are taken: verifies them and says who shows them.
// Owns the issuers' keys and remembers tokens that were verified. Must not know files or protocols.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/principal.h"
#include "access/role_table.h"
#include "access/token_keys.h"
#include "penstock/config.h"

namespace penstock {

struct TokenIssuer {
  TokenIssuerSection section;
  TokenKeys keys;
};

class TokenIssuers {
 public:
  explicit TokenIssuers(std::vector<TokenIssuer> issuers) : issuers_(std::move(issuers)) {}
  static bool LooksLikeOne(std::string_view text);
  /// UNAUTHENTICATED, in words for the caller.
  absl::StatusOr<PrincipalPtr> Verify(std::string_view text, const RoleTable& roles,
                                      absl::Time now) const;

 private:
  struct Known {
    PrincipalPtr principal;
    absl::Time begin, end;
    uint64_t roles_id = 0;  // of the table by which the principal may what it may
  };
  absl::StatusOr<Known> VerifyFresh(std::string_view text, const RoleTable& roles) const;

  const std::vector<TokenIssuer> issuers_;
  mutable std::mutex mutex_;
  mutable absl::flat_hash_map<std::string, Known> known_;  // by SHA-256; guarded by mutex_
};

/// Keys of all issuers of a configuration, or INVALID_ARGUMENT in one line.
absl::StatusOr<std::shared_ptr<const TokenIssuers>> LoadIssuers(
    const std::vector<TokenIssuerSection>& sections);

}  // namespace penstock
