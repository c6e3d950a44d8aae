#include "server/tenant_counts.h"

#include "access/principal.h"

namespace penstock {
namespace {

constexpr size_t kMostTenants = 1000;  // with series of their own, over all configurations in force
constexpr char kOtherTenants[] = "other";

bool WasTurnedAway(const RequestRecord& record) { return record.code == 429 || record.code == 503; }

}  // namespace

TenantCounts::TenantCounts(Catalogue* catalogue, const Live<ServerConfig>* config)
    : catalogue_(*catalogue), config_(*config) {
  for (const char* always : {kOtherTenants, kAnonymousTenant})
    Of(always);  // however many there are
  for (const auto& [name, entry] : config_.Get()->tenants) {
    if (name != "*") Of(name);
  }
}

const TenantMetrics& TenantCounts::Of(const std::string& label) {
  const std::lock_guard lock(mutex_);
  const auto found = tenants_.find(label);
  if (found != tenants_.end()) return found->second;
  if (tenants_.size() >= kMostTenants && label != kOtherTenants) return tenants_.at(kOtherTenants);
  return tenants_.emplace(label, catalogue_.MakeTenantMetrics(label)).first->second;
}

void TenantCounts::Record(const RequestRecord& record) {
  const std::string name = record.tenant.empty() ? kAnonymousTenant : record.tenant;
  const bool known = name == kAnonymousTenant || config_.Get()->tenants.contains(name);
  const TenantMetrics& tenant = Of(known ? name : kOtherTenants);
  tenant.requests.Add();
  tenant.prompt_tokens.Add(static_cast<double>(record.usage.prompt_tokens));
  tenant.generation_tokens.Add(static_cast<double>(record.usage.completion_tokens));
  tenant.queue_seconds.Add(absl::ToDoubleSeconds(record.queue_time));
  if (WasTurnedAway(record)) tenant.rejected.Add();
}

}  // namespace penstock
