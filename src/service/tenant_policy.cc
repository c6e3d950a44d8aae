#include "service/tenant_policy.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

TenantPolicy::TenantPolicy(std::shared_ptr<const ServerConfig> config,
                           const PrincipalPtr& principal)
    : config_(std::move(config)),
      tenant_(principal == nullptr ? kAnonymousTenant : principal->tenant),
      key_models_(principal == nullptr ? std::vector<std::string>() : principal->models),
      rules_(RulesOf(*config_, tenant_)) {}

bool TenantPolicy::MayUse(const ServedModel* model, std::string_view name) const {
  const auto allow = [&](const std::vector<std::string>& models) {
    return models.empty() || std::any_of(models.begin(), models.end(), [&](const std::string& may) {
             return may == name || (model != nullptr && may == model->name);
           });
  };
  return allow(key_models_) && (rules_ == nullptr || allow(rules_->models));
}

absl::Duration TenantPolicy::queue_ttl() const {
  if (rules_ != nullptr && rules_->ttl > absl::ZeroDuration()) return rules_->ttl;
  return config_->limits.queue_ttl;
}

int32_t TenantPolicy::Priority(std::optional<int64_t> asked) const {
  const int32_t own = rules_ == nullptr ? 0 : rules_->priority;
  if (!asked) return own;
  const auto wanted = static_cast<int32_t>(*asked);
  return rules_ == nullptr ? wanted : std::max(own, wanted);
}

void TenantPolicy::Apply(std::optional<int64_t> priority, std::string_view request_id,
                         GenerateRequest& request) const {
  request.tenant = tenant_;
  request.priority = Priority(priority);
  request.queue_ttl = queue_ttl();
  const std::string_view cache = rules_ == nullptr ? "isolated" : std::string_view(rules_->cache);
  const std::string whose = cache == "isolated" ? absl::StrCat("tenant ", tenant_)
                            : cache == "off"    ? absl::StrCat("request ", ToAbsl(request_id))
                                                : std::string(cache);
  request.cache_salt = absl::StrCat(whose, "\n", request.cache_salt);
}

std::string TenantPolicy::CacheOwner() const {
  const std::string_view cache = rules_ == nullptr ? "isolated" : std::string_view(rules_->cache);
  if (cache == "off") return "";
  return cache == "isolated" ? absl::StrCat("tenant ", tenant_) : std::string(cache);
}

int64_t TenantPolicy::MostUnnamed(int64_t prompt_tokens, int64_t num_prompts, int64_t n) const {
  constexpr int64_t kLeast = kLeastUnnamed, kPart = 16;
  int64_t tightest = std::numeric_limits<int64_t>::max();
  if (rules_ == nullptr) return tightest;
  for (const int64_t limit : {rules_->tpm.value, rules_->budget_tokens.value}) {
    if (limit > 0) tightest = std::min(tightest, limit);
  }
  const int64_t room = (tightest / num_prompts - prompt_tokens) / n;
  return std::clamp<int64_t>(std::max(kLeast, tightest / kPart / (num_prompts * n)), 1,
                             std::max<int64_t>(1, room));
}

absl::StatusOr<std::shared_ptr<TenantLimits::Reservation>> TenantPolicy::Reserve(
    TenantLimits& limits, int64_t tokens) const {
  if (rules_ == nullptr) return nullptr;
  ASSIGN_OR_RETURN(std::unique_ptr<TenantLimits::Reservation> reservation,
                   limits.Reserve(tenant_, *rules_, tokens, config_->limits.shared));
  return std::shared_ptr<TenantLimits::Reservation>(std::move(reservation));
}

}  // namespace penstock
