// The series of shared limits, usage and the audit log.
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

}  // namespace penstock
