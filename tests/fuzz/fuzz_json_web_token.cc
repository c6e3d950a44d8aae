// Tokens and the key sets that they are verified with: the first line is a token, the rest a set.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "access/key_text.h"
#include "access/token_issuers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = input.find('\n');
  const std::string_view token = input.substr(0, line);
  (void)KeyText::Parse(token);
  const absl::StatusOr<SignedToken> parsed = SignedToken::Parse(token);
  if (parsed.ok() && !parsed->claims.is_object()) __builtin_trap();
  if (line == input.npos) return 0;
  const absl::StatusOr<TokenKeys> keys = TokenKeys::Parse(input.substr(line + 1));
  if (!keys.ok()) return 0;
  TokenIssuerSection section;
  section.issuer = "i";
  section.audience = "a";
  section.roles_claim = "r.s";
  const TokenIssuers issuers({{section, *keys}});
  static const RoleTable roles = *RoleTable::Make({{"user", {"infer"}}});
  // Nobody can sign for the keys of a mutated set but by finding a signature.
  (void)issuers.Verify(token, roles, absl::FromUnixSeconds(1'800'000'000));
  return 0;
}
