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

PrincipalPtr AnonymousPrincipal() {
  auto principal = std::make_shared<Principal>();
  principal->tenant = kAnonymousTenant;
  principal->permissions = kPublic;
  return principal;
}

}  // namespace

std::string_view NameOf(Proof proof) {
  switch (proof) {
    case Proof::kNone:
      return "none";
    case Proof::kSharedKey:
      return "shared_key";
    case Proof::kApiKey:
      return "api_key";
    case Proof::kToken:
      return "token";
    case Proof::kCertificate:
      return "certificate";
    case Proof::kSocket:
      return "socket";
  }
  return "";
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
  rules->has_key_file = !config.auth.key_file.pepper_file.empty();
  if (rules->shared_keys.empty() && !rules->has_key_file) rules->anonymous = AnonymousPrincipal();
  return rules;
}

AccessControl::AccessControl(std::shared_ptr<const AccessRules> rules)
    : state_{std::move(rules), nullptr} {}

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

absl::Status AccessControl::Refuse(Refusal refusal, std::string_view message) const {
  if (on_refusal_) on_refusal_(refusal);
  return refusal == Refusal::kPermission ? absl::PermissionDeniedError(ToAbsl(message))
                                         : absl::UnauthenticatedError(ToAbsl(message));
}

AccessControl::Found AccessControl::Identify(const Caller& caller) const {
  return IdentifyBy(state(), caller);
}

AccessControl::Found AccessControl::IdentifyBy(const State& state, const Caller& caller) const {
  const AccessRules& rules = *state.rules;
  if (rules.anonymous != nullptr) return rules.anonymous;
  const std::string_view secret = WithoutScheme(caller.credential);
  if (secret.empty()) {
    return Refuse(Refusal::kMissing, "an API key is needed: Authorization: Bearer <key>");
  }
  if (rules.has_key_file && KeyText::LooksLikeOne(secret)) {
    if (state.keys == nullptr) return Refuse(Refusal::kUnknown, "the API key is not known");
    KeyTable::Result result = state.keys->Find(secret, caller.address, absl::Now());
    if (result.principal == nullptr) return Refuse(result.refusal, result.message);
    return std::move(result.principal);
  }
  const auto it = rules.shared_keys.find(Sha256(secret));
  if (it != rules.shared_keys.end()) return it->second;
  return Refuse(Refusal::kUnknown, "the API key is not known");
}

AccessControl::Found AccessControl::Admit(const Caller& caller, RouteAccess access,
                                          std::string_view path) const {
  if (access.open() || (access.open_to_local() && caller.local)) return PrincipalPtr();
  const State now = state();
  if (now.rules->open_routes.contains(path)) return PrincipalPtr();
  ASSIGN_OR_RETURN(PrincipalPtr principal, IdentifyBy(now, caller));
  if (!principal->may(access.permission())) {
    return Refuse(Refusal::kPermission,
                  absl::StrCat("this needs the permission ", ToAbsl(NameOf(access.permission())),
                               ", which none of the caller's roles has"));
  }
  return principal;
}

}  // namespace penstock
