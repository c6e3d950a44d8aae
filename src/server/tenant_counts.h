// What each tenant of the configuration does, as metrics. Who is not named there is counted together:
// names that clients bring never make a series.
// Owns the handles. Must not know how requests run.
// Threads: thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "base/live.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"
#include "penstock/service.h"

namespace penstock {

class TenantCounts final : public RequestLog {
 public:
  /// Both outlive it. Tenants that are configured already begin at 0.
  TenantCounts(Catalogue* catalogue, const Live<ServerConfig>* config);
  void Record(const RequestRecord& record) override;

 private:
  const TenantMetrics& Of(const std::string& label);

  Catalogue& catalogue_;
  const Live<ServerConfig>& config_;
  std::mutex mutex_;  // guards the next
  std::map<std::string, TenantMetrics> tenants_;
};

}  // namespace penstock
