#include "service/tenant_limits.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "service/call_error.h"

namespace penstock {
namespace {

constexpr size_t kManyAccounts = 4096;

absl::Status Exhausted(const std::string& tenant, std::string_view limit, int64_t size,
                       absl::Duration wait) {
  const absl::Duration seconds = absl::Ceil(std::max(wait, absl::Seconds(1)), absl::Seconds(1));
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                            "tenant ", tenant, ": ", std::string(limit), " of ", size,
                            " is used up, there is room in ", absl::FormatDuration(seconds))),
                        wait);
}

absl::Status TooLarge(const std::string& tenant, int64_t tokens, std::string_view limit,
                      int64_t size) {
  return absl::InvalidArgumentError(absl::StrCat(
      "tenant ", tenant, ": the request may take ", tokens, " tokens (prompt and max_tokens), ",
      std::string(limit), " is ", size, ": lower max_tokens"));
}

}  // namespace

const TenantEntry* RulesOf(const ServerConfig& config, const std::string& tenant) {
  auto it = config.tenants.find(tenant);
  if (it == config.tenants.end()) it = config.tenants.find("*");
  return it == config.tenants.end() ? nullptr : &it->second;
}

TenantLimits::Reservation::~Reservation() {
  if (limits_ != nullptr) limits_->Settle(tenant_, tokens_, 0, /*ran=*/false);
}

void TenantLimits::Reservation::Settle(int64_t used) {
  if (const auto limits = std::exchange(limits_, nullptr))
    limits->Settle(tenant_, tokens_, used, /*ran=*/true);
}

void TenantLimits::Bucket::Refill(double new_size, absl::Time now) {
  if (size == 0) {
    level = new_size;
  } else {
    level += new_size * absl::ToDoubleSeconds(now - at) / 60;
  }
  size = new_size;
  level = std::min(level, size);
  at = now;
}

absl::Duration TenantLimits::Bucket::Until(double amount) const {
  if (level >= amount || size <= 0) return absl::ZeroDuration();
  return absl::Seconds((amount - level) / size * 60);
}

absl::Status TenantLimits::Check(const std::string& tenant, const Account& account,
                                 const TenantEntry& rules, int64_t tokens, absl::Time now) const {
  const auto amount = static_cast<double>(tokens);
  if (const int64_t tpm = rules.tpm.value; tpm > 0 && tokens > tpm)
    return TooLarge(tenant, tokens, "tpm", tpm);
  if (const int64_t budget = rules.budget_tokens.value; budget > 0) {
    if (tokens > budget) return TooLarge(tenant, tokens, "budget.tokens", budget);
    if (account.budget_left < amount)
      return Exhausted(tenant, "budget.tokens", budget, account.budget_end - now);
  }
  if (rules.rpm.value > 0 && account.requests.level < 1)
    return Exhausted(tenant, "rpm", rules.rpm.value, account.requests.Until(1));
  if (rules.tpm.value > 0 && account.tokens.level < amount)
    return Exhausted(tenant, "tpm", rules.tpm.value, account.tokens.Until(amount));
  if (rules.parallel > 0 && account.parallel >= rules.parallel)
    return Exhausted(tenant, "parallel", rules.parallel, absl::Seconds(1));
  return absl::OkStatus();
}

TenantLimits::Reserved TenantLimits::Reserve(const std::string& tenant, const TenantEntry& rules,
                                             int64_t tokens) {
  const absl::Time now = clock_->Now();
  TenantState state;
  std::lock_guard lock(mutex_);
  if (accounts_.size() >= kManyAccounts && !accounts_.contains(tenant)) ForgetIdle(now);
  Account& account = accounts_[tenant];
  account.requests.Refill(static_cast<double>(rules.rpm.value), now);
  account.tokens.Refill(static_cast<double>(rules.tpm.value), now);
  if (account.budget_end <= now) {
    account.budget_left = static_cast<double>(rules.budget_tokens.value);
    account.budget_size = rules.budget_tokens.value;
    account.budget_end = now + rules.budget_per;
  } else if (account.budget_size != rules.budget_tokens.value) {
    account.budget_left += static_cast<double>(rules.budget_tokens.value - account.budget_size);
    account.budget_size = rules.budget_tokens.value;
  }
  RETURN_IF_ERROR(Check(tenant, account, rules, tokens, now));
  const auto amount = static_cast<double>(tokens);
  const auto take = [&](Bucket& bucket, int64_t limit, double how_much, LimitState& left) {
    if (limit <= 0) return;
    bucket.level -= how_much;
    left = {limit, static_cast<int64_t>(std::max(0.0, bucket.level)), bucket.Until(bucket.size)};
  };
  take(account.requests, rules.rpm.value, 1, state.requests);
  take(account.tokens, rules.tpm.value, amount, state.tokens);
  account.budget_left -= amount;
  ++account.parallel;
  return std::make_unique<Reservation>(shared_from_this(), tenant, tokens, state);
}

void TenantLimits::Settle(const std::string& tenant, int64_t reserved, int64_t used, bool ran) {
  const absl::Time now = clock_->Now();
  std::lock_guard lock(mutex_);
  const auto it = accounts_.find(tenant);
  if (it == accounts_.end()) return;
  Account& account = it->second;
  const auto back = static_cast<double>(reserved - used);
  --account.parallel;
  const auto budget = static_cast<double>(account.budget_size);
  account.budget_left = std::min(account.budget_left + back, budget);
  account.tokens.Refill(account.tokens.size, now);
  account.tokens.level = std::min(account.tokens.level + back, account.tokens.size);
  if (ran) return;
  account.requests.Refill(account.requests.size, now);
  account.requests.level = std::min(account.requests.level + 1, account.requests.size);
}

/// Those of whom nothing is known that a new account would not know too: names come from outside.
void TenantLimits::ForgetIdle(absl::Time now) {
  absl::erase_if(accounts_, [now](auto& entry) {
    Account& account = entry.second;
    account.requests.Refill(account.requests.size, now);
    account.tokens.Refill(account.tokens.size, now);
    return account.parallel == 0 && account.requests.level >= account.requests.size &&
           account.tokens.level >= account.tokens.size &&
           (account.budget_size == 0 || account.budget_end <= now);
  });
}

}  // namespace penstock
