#include "server/access_parts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "access/client_certificates.h"
#include "access/issuer_source.h"
#include "access/key_source.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "server/audit_events.h"
#include "server/http_call.h"
#include "server/logging.h"
#include "server/state_file.h"

namespace penstock {
namespace {

void LogAccess(bool failed, std::string_view line) {
  Log(failed ? LogLevel::kError : LogLevel::kInfo, line);
}

absl::StatusOr<std::string> FetchKeySet(const std::string& url) {
  HttpCall call;
  call.url = url;
  call.max_answer = 1 << 20;
  ASSIGN_OR_RETURN(HttpReply reply, CallHttp(call));
  if (reply.status != 200) return absl::UnavailableError(absl::StrCat("HTTP ", reply.status));
  if (reply.is_cut) return absl::UnavailableError("more than a key set");
  return std::move(reply.body);
}

}  // namespace

absl::Status AccessParts::OpenTls(const ServerConfig& config, Catalogue& catalogue) {
  if (config.tls.cert_file.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(tls_, TlsFiles::Load(config.tls, ClientAuthOf(config.tls), LogAccess));
  if (!config.server.admin.http.empty()) {
    ASSIGN_OR_RETURN(admin_tls_, TlsFiles::Load(config.tls, ClientAuth::kRequire, LogAccess));
  }
  certificate_end_ = catalogue.MakeCertificateEnd();
  if (!config.tls.client_crl_file.empty()) lists_end_ = catalogue.MakeRevocationListsEnd();
  loop_.Add([this] {
    tls_->Check();
    if (admin_tls_ != nullptr) admin_tls_->Check();
    ShowEnds();
  });
  return absl::OkStatus();
}

void AccessParts::ShowEnds() {
  const auto show = [](GaugeHandle& gauge, absl::Time end) {
    gauge.Set(absl::ToDoubleSeconds(end - absl::UnixEpoch()));
  };
  show(certificate_end_, tls_->current()->not_after);
  for (const TlsFiles* files : {tls_.get(), admin_tls_.get()}) {
    if (files == nullptr) continue;
    if (const auto clients = files->current()->clients) show(lists_end_, clients->lists_end());
  }
}

void AccessParts::ShowBreakGlass(const KeyRecords& records) {
  const int valid = records == nullptr ? 0 : CountBreakGlassKeys(*records, absl::Now());
  break_glass_keys_.Set(valid);
  if (valid == break_glass_told_) return;
  break_glass_told_ = valid;
  Log(LogLevel::kWarn, absl::StrCat("break-glass keys that are valid: ", valid));
}

absl::Status AccessParts::OpenIssuers(const AuthSection& auth) {
  if (auth.jwt.empty()) return absl::OkStatus();
  std::vector<std::string> urls;
  for (const TokenIssuerSection& issuer : auth.jwt) {
    if (!issuer.jwks_url.empty()) urls.push_back(issuer.jwks_url);
  }
  if (!urls.empty()) {
    remote_keys_ = std::make_unique<RemoteKeySets>(
        urls, [](const std::string& url) { return FetchKeySet(url); }, &SystemClock::Get(),
        LogAccess);
    fetches_ = std::make_unique<AccessLoop>();
    fetches_->Add([this] {
      remote_keys_->Check();
      loop_.Wake();
    });
    fetches_->Start();
  }
  const auto source = std::make_shared<IssuerSource>(
      auth.jwt, control_.get(), LogAccess, remote_keys_.get(), [this] { fetches_->Wake(); });
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
  parts->break_glass_keys_ = catalogue->MakeBreakGlassKeys();
  RETURN_IF_ERROR(parts->OpenTls(config, *catalogue));
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
    parts->loop_.Add([source, self = parts.get()] {
      source->Check();
      self->ShowBreakGlass(source->records());
    });
  }
  parts->loop_.Start();
  return parts;
}

absl::Status AccessParts::Reconfigure(const ServerConfig& config) {
  ASSIGN_OR_RETURN(std::shared_ptr<const AccessRules> rules, MakeAccessRules(config));
  if (keys_ != nullptr) keys_->SetRoles(rules->roles);
  control_->SetRules(std::move(rules));
  return absl::OkStatus();
}

}  // namespace penstock
