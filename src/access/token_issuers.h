// Whose tokens are taken: verifies them and says who shows them.
// Owns the issuers' keys and remembers tokens that were verified. Must not know files or protocols.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
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
  std::function<void()> on_unknown_key = nullptr;  // a token names one; quick; null: no matter
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

/// The key sets behind the URLs of issuers.
struct RemoteKeys {
  std::function<std::optional<std::string>(const std::string& url)> text;  // none: not there
  std::function<void(const std::string& url)> on_unknown_key;
};

/// Keys of all issuers of a configuration, or INVALID_ARGUMENT in one line. An issuer whose key set
/// is not there yet has no keys.
absl::StatusOr<std::shared_ptr<const TokenIssuers>> LoadIssuers(
    const std::vector<TokenIssuerSection>& sections, const RemoteKeys& remote = {});

}  // namespace penstock
