#include "access/access_control.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "access/digest.h"
#include "access/key_text.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

// What a caller may who is not told apart from others: everything on the public listener.
constexpr Permissions kPublic = {Permission::kInfer, Permission::kReadMetrics, Permission::kModel};

std::string_view WithoutScheme(std::string_view credential) {
  constexpr std::string_view kBearer = "bearer ";
  if (absl::StartsWithIgnoreCase(ToAbsl(credential), ToAbsl(kBearer)))
    credential.remove_prefix(kBearer.size());
  while (credential.starts_with(' ')) credential.remove_prefix(1);
  return credential;
}

PrincipalPtr SharedKeyPrincipal(const std::string& digest) {
  auto principal = std::make_shared<Principal>();
  principal->tenant = kSharedKeyTenant;
  // Says which key it was without saying anything of the key.
  principal->key_id = absl::BytesToHexString(digest.substr(0, 4));
  principal->owner = absl::StrCat("key ", absl::BytesToHexString(digest));
  principal->proof = Proof::kSharedKey;
  principal->permissions = kPublic;
  return principal;
}

PrincipalPtr OperatorPrincipal() {
  auto principal = std::make_shared<Principal>();
  principal->tenant = "operators";
  principal->owner = "operators";
  principal->proof = Proof::kSocket;
  principal->permissions = Permissions::All();
  return principal;
}

bool Matches(std::string_view pattern, std::string_view text) {
  size_t at = 0, in = 0, star = pattern.npos, resume = 0;
  while (in < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      resume = in;
    } else if (at < pattern.size() && pattern[at] == text[in]) {
      ++at;
      ++in;
    } else if (star != pattern.npos) {
      at = star + 1;
      in = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == pattern.npos;
}

PrincipalPtr AnonymousPrincipal() {
  auto principal = std::make_shared<Principal>();
  principal->tenant = kAnonymousTenant;
  principal->permissions = kPublic;
  return principal;
}

}  // namespace

PrincipalPtr FindByNames(const std::vector<CertificateRule>& rules,
                         const std::vector<std::string>& names) {
  const CertificateRule* best = nullptr;
  const std::string* matched = nullptr;
  for (const CertificateRule& rule : rules) {
    for (const std::string& name : names) {
      if (!Matches(rule.pattern, name)) continue;
      if (best != nullptr && best->pattern.size() >= rule.pattern.size()) continue;
      best = &rule;
      matched = &name;
    }
  }
  if (best == nullptr) return nullptr;
  auto principal = std::make_shared<Principal>(*best->principal);
  principal->key_id = *matched;
  principal->owner = absl::StrCat("certificate ", principal->tenant, " ", *matched);
  return principal;
}

absl::StatusOr<std::shared_ptr<const AccessRules>> MakeAccessRules(const ServerConfig& config) {
  auto rules = std::make_shared<AccessRules>();
  ASSIGN_OR_RETURN(rules->roles, RoleTable::Make(config.roles));
  for (const std::string& path : config.server.open_routes) rules->open_routes.insert(path);
  for (const std::string& key : config.auth.api_keys) {
    std::string digest = Sha256(key);
    PrincipalPtr principal = SharedKeyPrincipal(digest);
    rules->shared_keys.emplace(std::move(digest), std::move(principal));
  }
  for (const auto& [pattern, entry] : config.auth.mtls) {
    const std::string where = absl::StrCat("auth.mtls.", pattern);
    if (!IsTenantName(entry.tenant))
      return absl::InvalidArgumentError(absl::StrCat(where, ".tenant: expected a name"));
    if (entry.tenant == kBreakGlassTenant) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ".tenant: ", kBreakGlassTenant, " is the tenant of keys for emergencies alone"));
    }
    for (const std::string& role : entry.roles) {
      if (!rules->roles.has(role))
        return absl::InvalidArgumentError(absl::StrCat(where, ".roles: there is no role ", role));
    }
    auto principal = std::make_shared<Principal>();
    principal->tenant = entry.tenant;
    principal->roles = entry.roles;
    principal->proof = Proof::kCertificate;
    principal->permissions = rules->roles.Of(entry.roles);
    rules->certificates.push_back({pattern, std::move(principal)});
  }
  rules->operators = OperatorPrincipal();
  rules->has_key_file = !config.auth.key_file.pepper_file.empty();
  if (rules->shared_keys.empty() && !rules->has_key_file && config.auth.jwt.empty() &&
      rules->certificates.empty())
    rules->anonymous = AnonymousPrincipal();
  return rules;
}

AccessControl::AccessControl(std::shared_ptr<const AccessRules> rules)
    : state_{std::move(rules), nullptr, nullptr} {}

AccessControl::State AccessControl::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

void AccessControl::SetRules(std::shared_ptr<const AccessRules> rules) {
  std::lock_guard lock(mutex_);
  if (state_.keys != nullptr) {
    state_.keys = std::make_shared<const KeyTable>(state_.keys->records(), pepper_, rules->roles);
  }
  state_.rules = std::move(rules);
}

void AccessControl::SetKeys(KeyRecords records, std::string pepper) {
  std::lock_guard lock(mutex_);
  pepper_ = std::move(pepper);
  state_.keys = std::make_shared<const KeyTable>(std::move(records), pepper_, state_.rules->roles);
}

void AccessControl::SetIssuers(std::shared_ptr<const TokenIssuers> issuers) {
  std::lock_guard lock(mutex_);
  state_.issuers = std::move(issuers);
}

absl::Status AccessControl::Refuse(const RefusedCall& call, std::string_view message,
                                   const RefusalFn& tell) {
  if (tell) tell(call);
  return call.refusal == Refusal::kPermission ? absl::PermissionDeniedError(ToAbsl(message))
                                              : absl::UnauthenticatedError(ToAbsl(message));
}

AccessControl::Found AccessControl::Identify(const Caller& caller) const {
  return IdentifyBy(state(), caller, "", on_refusal_);
}

AccessControl::Found AccessControl::IdentifyBy(const State& state, const Caller& caller,
                                               std::string_view path, const RefusalFn& tell) {
  const auto refuse = [&](Refusal refusal, std::string_view message) {
    return Refuse({refusal, caller, nullptr, path}, message, tell);
  };
  const AccessRules& rules = *state.rules;
  if (caller.by_socket) return rules.operators;
  if (caller.certificate_refused) {
    return refuse(Refusal::kCertificate,
                  "the certificate is not good any more: it was revoked, it has ended, or its "
                  "authority's revocation list has");
  }
  if (rules.anonymous != nullptr) return rules.anonymous;
  const std::string_view secret = WithoutScheme(caller.credential);
  if (secret.empty()) {
    if (caller.names != nullptr && !caller.names->empty() && !rules.certificates.empty()) {
      PrincipalPtr principal = FindByNames(rules.certificates, *caller.names);
      if (principal != nullptr) return principal;
      return refuse(Refusal::kCertificate, "the certificate's names are not known");
    }
    return refuse(Refusal::kMissing, "an API key is needed: Authorization: Bearer <key>");
  }
  if (rules.has_key_file && KeyText::LooksLikeOne(secret)) {
    if (state.keys == nullptr) return refuse(Refusal::kUnknown, "the API key is not known");
    KeyTable::Result result = state.keys->Find(secret, caller.address, absl::Now());
    if (result.principal == nullptr) return refuse(result.refusal, result.message);
    return std::move(result.principal);
  }
  if (state.issuers != nullptr && TokenIssuers::LooksLikeOne(secret)) {
    absl::StatusOr<PrincipalPtr> principal =
        state.issuers->Verify(secret, rules.roles, absl::Now());
    if (principal.ok()) return principal;
    return refuse(Refusal::kToken, Message(principal.status()));
  }
  const auto it = rules.shared_keys.find(Sha256(secret));
  if (it != rules.shared_keys.end()) return it->second;
  return refuse(Refusal::kUnknown, "the API key is not known");
}

AccessControl::Found AccessControl::AdmitBy(const Caller& caller, RouteAccess access,
                                            std::string_view path, const RefusalFn& tell) const {
  if (access.open() || (access.open_to_local() && caller.local)) return PrincipalPtr();
  const State now = state();
  if (now.rules->open_routes.contains(path)) return PrincipalPtr();
  ASSIGN_OR_RETURN(PrincipalPtr principal, IdentifyBy(now, caller, path, tell));
  if (!principal->may(access.permission())) {
    return Refuse({Refusal::kPermission, caller, principal.get(), path},
                  absl::StrCat("this needs the permission ", ToAbsl(NameOf(access.permission())),
                               ", which none of the caller's roles has"),
                  tell);
  }
  return principal;
}

AccessControl::Found AccessControl::Admit(const Caller& caller, RouteAccess access,
                                          std::string_view path) const {
  return AdmitBy(caller, access, path, on_refusal_);
}

bool AccessControl::WouldAdmit(const Caller& caller, RouteAccess access,
                               std::string_view path) const {
  return AdmitBy(caller, access, path, nullptr).ok();
}

}  // namespace penstock
