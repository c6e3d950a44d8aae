// A JSON Web Token in compact form (RFC 7515, 7519), taken apart and not yet believed.
// Owns what was decoded. Must not know keys or issuers.
// Threads: value.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

/// The only algorithms; `none` and those with a shared secret are not among them.
enum class TokenAlgorithm : uint8_t { kRs256, kPs256, kEs256, kEdDsa };
std::optional<TokenAlgorithm> FindTokenAlgorithm(std::string_view name);

struct SignedToken {
  TokenAlgorithm algorithm = TokenAlgorithm::kRs256;
  std::string key_id;            // kid; empty: none
  nlohmann::json claims;         // an object
  std::string_view signed_part;  // of the text that was parsed
  std::string signature;

  /// INVALID_ARGUMENT for whatever is not exactly such a token: other algorithms, padding, unknown
  /// critical headers, members given twice, more than kMaxTokenBytes.
  static absl::StatusOr<SignedToken> Parse(std::string_view text);
};
inline constexpr size_t kMaxTokenBytes = 16384;

/// Base 64 with the alphabet of URLs and without padding, one spelling for each value.
std::optional<std::string> DecodeBase64Url(std::string_view text);
/// An object without members that are given twice; none otherwise.
std::optional<nlohmann::json> ParseStrictObject(std::string_view text);

}  // namespace penstock
