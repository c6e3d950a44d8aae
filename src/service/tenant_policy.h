// What the configuration says of a call's tenant, put to use: its models, its place in the queue, its
// part of the cache, what it reserves.
// Owns a snapshot of the configuration. Must not know how limits are counted.
// Threads: value, of one call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "access/principal.h"
#include "ledger/usage_book.h"
#include "penstock/config.h"
#include "penstock/request.h"
#include "penstock/service.h"
#include "service/tenant_limits.h"

namespace penstock {

class TenantPolicy {
 public:
  /// `principal` null: nobody was asked for; the anonymous tenant.
  TenantPolicy(std::shared_ptr<const ServerConfig> config, const PrincipalPtr& principal);

  const std::string& name() const { return tenant_; }
  const ServerConfig& config() const { return *config_; }
  /// Whether tenant and key may use the model (null: none that is loaded) that it calls `name`.
  bool MayUse(const ServedModel* model, std::string_view name) const;
  /// Of a prompt token that was in the cache, where a token counts 1.
  double cached_price() const { return rules_ == nullptr ? 1 : rules_->cached_price.value; }
  /// How long a request may wait for its first step; zero: for ever.
  absl::Duration queue_ttl() const;
  /// Priorities: the tenant's own, or what the request asks for behind it.
  int32_t Priority(std::optional<int64_t> asked) const;
  /// Tenant, priority, patience and the salt of the prefix cache. `request_id` tells requests apart.
  void Apply(std::optional<int64_t> priority, std::string_view request_id,
             GenerateRequest& request) const;
  /// Whose answers it shares; "": nobody's, not even its own.
  std::string CacheOwner() const;
  /// Counts a call of the tenant in `book`, if there is one.
  UsageMeter Meter(const std::shared_ptr<UsageBook>& book) const { return {book, tenant_}; }
  static constexpr int32_t kLeastUnnamed = 1024;
  /// The most tokens of an answer, one of `n` to each of `num_prompts` prompts like this one, where the
  /// call names no number: a part of the tightest limit of tokens, 1024 at least, and no more than it
  /// can ever give. Without such a limit, any number.
  int64_t MostUnnamed(int64_t prompt_tokens, int64_t num_prompts, int64_t n) const;
  /// Null where the tenant has no limits.
  absl::StatusOr<std::shared_ptr<TenantLimits::Reservation>> Reserve(TenantLimits& limits,
                                                                     int64_t tokens) const;

 private:
  std::shared_ptr<const ServerConfig> config_;
  std::string tenant_;
  std::vector<std::string> key_models_;
  const TenantEntry* rules_;  // into config_; null: none
};

}  // namespace penstock
