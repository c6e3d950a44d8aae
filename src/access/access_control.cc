#include "access/access_control.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "access/digest.h"
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

std::string_view NameOf(Refusal refusal) {
  switch (refusal) {
    case Refusal::kMissing:
      return "missing";
    case Refusal::kUnknown:
      return "unknown";
    case Refusal::kPermission:
      return "permission";
  }
  return "";
}

absl::StatusOr<RoleTable> RoleTable::Make(
    const std::map<std::string, std::vector<std::string>>& roles) {
  RoleTable out;
  for (const auto& [role, names] : roles) {
    Permissions& permissions = out.roles_[role];
    for (const std::string& name : names) {
      const std::optional<Permission> permission = FindPermission(name);
      if (permission) {
        permissions.Add(*permission);
      } else if (name == "*") {
        permissions = Permissions::All();
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat("roles.", role, ": '", name, "' is no permission; expected * or some of ",
                         absl::StrJoin(PermissionNames(), ", ",
                                       [](std::string* s, std::string_view n) { s->append(n); })));
      }
    }
  }
  return out;
}

Permissions RoleTable::Of(const std::vector<std::string>& roles) const {
  Permissions out;
  for (const std::string& role : roles) {
    if (const auto it = roles_.find(role); it != roles_.end()) out.Add(it->second);
  }
  return out;
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
  if (rules->shared_keys.empty()) rules->anonymous = AnonymousPrincipal();
  return rules;
}

AccessControl::AccessControl(std::shared_ptr<const AccessRules> rules) : rules_(std::move(rules)) {}

std::shared_ptr<const AccessRules> AccessControl::rules() const {
  std::lock_guard lock(mutex_);
  return rules_;
}

void AccessControl::SetRules(std::shared_ptr<const AccessRules> rules) {
  std::lock_guard lock(mutex_);
  rules_.swap(rules);
}

absl::Status AccessControl::Refuse(Refusal refusal, std::string_view message) const {
  if (on_refusal_) on_refusal_(refusal);
  return refusal == Refusal::kPermission ? absl::PermissionDeniedError(ToAbsl(message))
                                         : absl::UnauthenticatedError(ToAbsl(message));
}

AccessControl::Found AccessControl::Identify(const Caller& caller) const {
  return IdentifyBy(*rules(), caller);
}

AccessControl::Found AccessControl::IdentifyBy(const AccessRules& rules,
                                               const Caller& caller) const {
  if (rules.anonymous != nullptr) return rules.anonymous;
  const std::string_view secret = WithoutScheme(caller.credential);
  if (secret.empty()) {
    return Refuse(Refusal::kMissing, "an API key is needed: Authorization: Bearer <key>");
  }
  const auto it = rules.shared_keys.find(Sha256(secret));
  if (it != rules.shared_keys.end()) return it->second;
  return Refuse(Refusal::kUnknown, "the API key is not known");
}

AccessControl::Found AccessControl::Admit(const Caller& caller, RouteAccess access,
                                          std::string_view path) const {
  if (access.open() || (access.open_to_local() && caller.local)) return PrincipalPtr();
  const std::shared_ptr<const AccessRules> rules = this->rules();
  if (rules->open_routes.contains(path)) return PrincipalPtr();
  ASSIGN_OR_RETURN(PrincipalPtr principal, IdentifyBy(*rules, caller));
  if (!principal->may(access.permission())) {
    return Refuse(Refusal::kPermission,
                  absl::StrCat("this needs the permission ", ToAbsl(NameOf(access.permission())),
                               ", which none of the caller's roles has"));
  }
  return principal;
}

}  // namespace penstock
