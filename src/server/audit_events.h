// What of the server's work goes into the audit log, and in which words. No content.
// Owns nothing. Must not know how the log is written.
// Threads: thread-safe.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "access/access_control.h"
#include "access/key_table.h"
#include "ledger/audit_loop.h"
#include "penstock/config.h"
#include "server/logging.h"
#include "service/operator_act.h"

namespace penstock {

void AuditRefusal(AuditLoop& audit, const RefusedCall& call);
/// Keys that were made, revoked, given another end, or are gone.
void AuditKeys(AuditLoop& audit, const std::vector<KeyRecord>& before,
               const std::vector<KeyRecord>& after);
/// `hash`: of the configuration in force after it.
void AuditReload(AuditLoop& audit, std::string_view cause, const absl::Status& status,
                 std::string_view hash);

/// What an operator did over the admin routes or, with adapters, the public ones.
void AuditAct(AuditLoop& audit, const OperatorAct& act);
/// A model or an adapter came, or went. `files`: where it lies, for its digest; empty: none is told.
void AuditModel(AuditLoop& audit, std::string_view change, std::string_view model,
                std::string_view adapter, const std::string& files);
/// Names of models that a reload changed.
void AuditAliases(AuditLoop& audit, const ServerConfig& before, const ServerConfig& after);
/// An alias of the state file means something else than before; empty: there was, or is, none.
void AuditAlias(AuditLoop& audit, const std::string& alias, const std::string& from,
                const std::string& to);
/// The server is about to leave; `cause`: a literal.
void AuditDrain(AuditLoop& audit, std::string_view cause);

/// Logs requests, and audits them where there is an audit log.
class AuditedRequests final : public RequestLog {
 public:
  void set_audit(AuditLoop* audit) { audit_ = audit; }  // before the first request
  void Record(const RequestRecord& record) override;

 private:
  LoggedRequests log_;
  AuditLoop* audit_ = nullptr;
};

}  // namespace penstock
