// The series of shared limits, usage, the audit log and tenants.
#include "metrics/catalogue.h"

namespace penstock {

AccountMetrics Catalogue::MakeAccountMetrics() {
  constexpr std::string_view kOutcomes = "penstock_shared_limits_total";
  AccountMetrics out;
  out.shared_up = MakeGauge("penstock_shared_limits_up", {});
  out.shared_admitted = MakeCounter(kOutcomes, {{"outcome", "admitted"}});
  out.shared_refused = MakeCounter(kOutcomes, {{"outcome", "refused"}});
  out.shared_outage = MakeCounter(kOutcomes, {{"outcome", "outage"}});
  out.shared_seconds = MakeHistogram("penstock_shared_limits_seconds", {});
  out.usage_write_errors = MakeCounter("penstock_usage_write_errors_total", {});
  out.audit_lines = MakeCounter("penstock_audit_lines_total", {});
  out.audit_write_errors = MakeCounter("penstock_audit_write_errors_total", {});
  out.audit_chain_ok = MakeGauge("penstock_audit_chain_ok", {});
  return out;
}

TenantMetrics Catalogue::MakeTenantMetrics(const std::string& tenant) {
  const auto counter = [&](std::string_view name) {
    return MakeCounter(name, {{"tenant", tenant}});
  };
  TenantMetrics out;
  out.requests = counter("penstock_tenant_requests_total");
  out.rejected = counter("penstock_tenant_rejected_total");
  out.prompt_tokens = counter("penstock_tenant_prompt_tokens_total");
  out.generation_tokens = counter("penstock_tenant_generation_tokens_total");
  out.queue_seconds = counter("penstock_tenant_queue_seconds_total");
  return out;
}

}  // namespace penstock
