#include "access/token_issuers.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "access/digest.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

using nlohmann::json;

constexpr size_t kMaxKnown = 4096;
constexpr size_t kMaxRoles = 64;

absl::Status BadToken(const char* what) { return absl::UnauthenticatedError(what); }

/// A claim by its name, or by names with dots from the outside in; null: there is none.
const json* FindClaim(const json& claims, std::string_view path) {
  if (const auto whole = claims.find(std::string(path)); whole != claims.end()) return &*whole;
  const json* at = &claims;
  for (absl::string_view part : absl::StrSplit(ToAbsl(path), '.')) {
    if (!at->is_object()) return nullptr;
    const auto next = at->find(std::string(part));
    if (next == at->end()) return nullptr;
    at = &*next;
  }
  return at;
}

std::string TextClaim(const json& claims, std::string_view path) {
  const json* claim = FindClaim(claims, path);
  return claim == nullptr || !claim->is_string() ? "" : claim->get<std::string>();
}

/// A NumericDate; none where it is missing, and an error where it is no number.
absl::StatusOr<std::optional<absl::Time>> TimeClaim(const json& claims, const char* name) {
  const auto it = claims.find(name);
  if (it == claims.end()) return std::optional<absl::Time>();
  if (!it->is_number()) return BadToken("a time of the token is no number");
  const double seconds = it->get<double>();
  if (!std::isfinite(seconds) || std::abs(seconds) > 1e13)
    return BadToken("a time of the token is out of range");
  return std::optional(absl::UnixEpoch() + absl::Seconds(seconds));
}

bool IsFor(const json& claims, const std::string& audience) {
  const auto it = claims.find("aud");
  if (it == claims.end()) return false;
  if (it->is_string()) return it->get_ref<const std::string&>() == audience;
  return it->is_array() && std::any_of(it->begin(), it->end(), [&](const json& one) {
           return one.is_string() && one.get_ref<const std::string&>() == audience;
         });
}

std::vector<std::string> RolesOf(const json& claims, const TokenIssuerSection& section) {
  std::vector<std::string> out = section.roles;
  const json* claim =
      section.roles_claim.empty() ? nullptr : FindClaim(claims, section.roles_claim);
  if (claim == nullptr) return out;
  if (claim->is_string()) {
    for (absl::string_view word :
         absl::StrSplit(claim->get_ref<const std::string&>(), ' ', absl::SkipEmpty()))
      out.emplace_back(word);
  } else if (claim->is_array()) {
    for (const json& one : *claim) {
      if (one.is_string()) out.push_back(one.get<std::string>());
    }
  }
  if (out.size() > kMaxRoles) out.resize(kMaxRoles);
  return out;
}

}  // namespace

bool TokenIssuers::LooksLikeOne(std::string_view text) {
  return text.starts_with("ey") && std::count(text.begin(), text.end(), '.') == 2;
}

absl::StatusOr<TokenIssuers::Known> TokenIssuers::VerifyFresh(std::string_view text,
                                                              const RoleTable& roles) const {
  const absl::StatusOr<SignedToken> parsed = SignedToken::Parse(text);
  if (!parsed.ok()) return absl::UnauthenticatedError(parsed.status().message());
  const json& claims = parsed->claims;
  const std::string issuer = TextClaim(claims, "iss");
  absl::Status status = BadToken("the token's issuer is not known");
  for (const TokenIssuer& candidate : issuers_) {
    const TokenIssuerSection& section = candidate.section;
    if (issuer.empty() || section.issuer != issuer) continue;
    if (candidate.on_unknown_key && !candidate.keys.Knows(*parsed)) candidate.on_unknown_key();
    status = candidate.keys.Verify(*parsed);
    if (!status.ok()) continue;
    if (!IsFor(claims, section.audience)) {
      status = BadToken("the token is for another audience");
      continue;
    }
    ASSIGN_OR_RETURN(const std::optional<absl::Time> expires, TimeClaim(claims, "exp"));
    ASSIGN_OR_RETURN(const std::optional<absl::Time> begins, TimeClaim(claims, "nbf"));
    if (!expires) return BadToken("the token never expires");
    Known out;
    out.end = *expires + section.leeway;
    out.begin = begins ? *begins - section.leeway : absl::InfinitePast();
    auto principal = std::make_shared<Principal>();
    principal->tenant = TextClaim(claims, section.tenant_claim);
    if (!IsTenantName(principal->tenant)) return BadToken("the token names no tenant");
    if (principal->tenant == kBreakGlassTenant)
      return BadToken("the token names the tenant of keys for emergencies");
    principal->roles = RolesOf(claims, section);
    principal->key_id = TextClaim(claims, "sub");
    principal->owner =
        absl::StrCat("token ", section.issuer, " ", principal->tenant, " ", principal->key_id);
    principal->proof = Proof::kToken;
    principal->permissions = roles.Of(principal->roles);
    out.principal = std::move(principal);
    out.roles_id = roles.id();
    return out;
  }
  return status;
}

absl::StatusOr<PrincipalPtr> TokenIssuers::Verify(std::string_view text, const RoleTable& roles,
                                                  absl::Time now) const {
  const std::string digest = Sha256(text);
  std::optional<Known> known;
  {
    std::lock_guard lock(mutex_);
    if (const auto it = known_.find(digest);
        it != known_.end() && it->second.roles_id == roles.id())
      known = it->second;
  }
  if (!known) {
    ASSIGN_OR_RETURN(known, VerifyFresh(text, roles));
    std::lock_guard lock(mutex_);
    if (known_.size() >= kMaxKnown) known_.clear();
    known_.insert_or_assign(digest, *known);
  }
  if (known->end <= now) return BadToken("the token has expired");
  if (known->begin > now) return BadToken("the token is not valid yet");
  return known->principal;
}

absl::StatusOr<std::shared_ptr<const TokenIssuers>> LoadIssuers(
    const std::vector<TokenIssuerSection>& sections, const RemoteKeys& remote) {
  std::vector<TokenIssuer> issuers;
  for (const TokenIssuerSection& section : sections) {
    TokenIssuer issuer{section, {}};
    absl::StatusOr<TokenKeys> keys = TokenKeys();
    if (section.jwks_url.empty()) {
      std::ifstream in(section.jwks_file, std::ios::binary);
      const std::string text(std::istreambuf_iterator<char>(in), {});
      keys = in ? TokenKeys::Parse(text) : absl::NotFoundError("cannot be read");
    } else if (remote.text) {
      if (const auto text = remote.text(section.jwks_url)) keys = TokenKeys::Parse(*text);
      issuer.on_unknown_key = [tell = remote.on_unknown_key, url = section.jwks_url] { tell(url); };
    }
    if (!keys.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "auth.jwt: ", section.jwks_file, section.jwks_url, ": ", keys.status().message()));
    }
    issuer.keys = *std::move(keys);
    issuers.push_back(std::move(issuer));
  }
  return std::make_shared<const TokenIssuers>(std::move(issuers));
}

}  // namespace penstock
