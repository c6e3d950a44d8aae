// An issuer's public keys, from a JSON Web Key Set (RFC 7517).
// Owns the keys. Must not know tokens' claims.
// Threads: immutable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "access/signed_token.h"

struct evp_pkey_st;

namespace penstock {

class TokenKeys {
 public:
  /// Keys for signatures by one of the algorithms; others of the set are passed over. A key is
  /// bound to the algorithms of its kind, and to its `alg` where it has one: RSA of 2048 bits at
  /// least, P-256, Ed25519. INVALID_ARGUMENT where the set is none, a key is damaged or nothing is
  /// left.
  static absl::StatusOr<TokenKeys> Parse(std::string_view text);
  /// The signature is of the key that the token names; without a name, of the only one of its
  /// algorithm. UNAUTHENTICATED otherwise.
  absl::Status Verify(const SignedToken& token) const;
  /// There is a key of the token's `kid`, or it names none.
  bool Knows(const SignedToken& token) const;
  size_t size() const { return keys_.size(); }

 private:
  struct Key {
    std::string id;
    std::vector<TokenAlgorithm> algorithms;
    std::shared_ptr<evp_pkey_st> key;
  };
  static absl::StatusOr<Key> ParseKey(const nlohmann::json& json, bool* skip);
  std::vector<Key> keys_;
};

}  // namespace penstock
