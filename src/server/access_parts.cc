#include "server/access_parts.h"

#include <utility>

#include "access/issuer_source.h"
#include "access/key_source.h"
#include "base/status_macros.h"
#include "server/audit_events.h"
#include "server/logging.h"
#include "server/state_file.h"

namespace penstock {
namespace {

void LogAccess(bool failed, std::string_view line) {
  Log(failed ? LogLevel::kError : LogLevel::kInfo, line);
}

}  // namespace

absl::Status AccessParts::OpenTls(const ServerConfig& config) {
  if (config.tls.cert_file.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(tls_, TlsFiles::Load(config.tls, ClientAuthOf(config.tls), LogAccess));
  loop_.Add([this] { tls_->Check(); });
  if (config.server.admin.http.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(admin_tls_, TlsFiles::Load(config.tls, ClientAuth::kRequire, LogAccess));
  loop_.Add([this] { admin_tls_->Check(); });
  return absl::OkStatus();
}

absl::Status AccessParts::OpenIssuers(const AuthSection& auth) {
  if (auth.jwt.empty()) return absl::OkStatus();
  const auto source = std::make_shared<IssuerSource>(auth.jwt, control_.get(), LogAccess);
  loop_.Add([source] { source->Check(); });
  return source->Load();
}

absl::StatusOr<std::unique_ptr<AccessParts>> AccessParts::Open(const ServerConfig& config,
                                                               Catalogue* catalogue,
                                                               AuditLoop* audit) {
  ASSIGN_OR_RETURN(std::shared_ptr<const AccessRules> rules, MakeAccessRules(config));
  auto parts = std::make_unique<AccessParts>();
  parts->control_ = std::make_unique<AccessControl>(std::move(rules));
  parts->control_->set_on_refusal([catalogue, audit](const RefusedCall& call) {
    catalogue->CountAuthFailure(NameOf(call.refusal));
    if (audit != nullptr) AuditRefusal(*audit, call);
  });
  RETURN_IF_ERROR(parts->OpenTls(config));
  RETURN_IF_ERROR(parts->OpenIssuers(config.auth));
  if (const std::string& pepper = config.auth.key_file.pepper; !pepper.empty()) {
    const std::string path = StateFile(config.server);
    ASSIGN_OR_RETURN(RoleTable roles, RoleTable::Make(config.roles));
    parts->keys_ = std::make_unique<KeyAdmin>(path, pepper, std::move(roles));
    const auto source = std::make_shared<KeySource>(path, pepper, parts->control_.get(), LogAccess);
    if (audit != nullptr) {
      source->set_on_change(
          [audit](const auto& before, const auto& after) { AuditKeys(*audit, before, after); });
    }
    parts->loop_.Add([source] { source->Check(); });
  }
  parts->loop_.Start();
  return parts;
}

absl::Status AccessParts::Reconfigure(const ServerConfig& config) {
  ASSIGN_OR_RETURN(std::shared_ptr<const AccessRules> rules, MakeAccessRules(config));
  control_->SetRules(std::move(rules));
  return absl::OkStatus();
}

}  // namespace penstock
