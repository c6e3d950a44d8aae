#include "service/tenant_limits.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "ledger/usage_book.h"
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

SharedRules SharedRulesOf(const TenantEntry& rules) {
  return {rules.rpm.value, rules.tpm.value, rules.parallel, rules.budget_tokens.value,
          rules.budget_per};
}

/// What each of `replicas` servers gives alone: something, of every limit that there is.
TenantEntry PartOf(TenantEntry rules, int32_t replicas) {
  const auto part = [replicas](int64_t all) {
    return all == 0 ? 0 : std::max<int64_t>(1, all / replicas);
  };
  rules.rpm.value = part(rules.rpm.value);
  rules.tpm.value = part(rules.tpm.value);
  rules.parallel = static_cast<int32_t>(part(rules.parallel));
  return rules;  // of the budget, what was left (BeginPart)
}

bool HasLimits(const TenantEntry& rules) {
  return rules.rpm.value > 0 || rules.tpm.value > 0 || rules.parallel > 0 ||
         rules.budget_tokens.value > 0;
}

absl::Status RefusalOf(const std::string& tenant, const TenantEntry& rules,
                       const SharedDecision& decision) {
  switch (decision.limit) {
    case SharedDecision::kRequests:
      return Exhausted(tenant, "rpm", rules.rpm.value, decision.wait);
    case SharedDecision::kTokens:
      return Exhausted(tenant, "tpm", rules.tpm.value, decision.wait);
    case SharedDecision::kParallel:
      return Exhausted(tenant, "parallel", rules.parallel, decision.wait);
    case SharedDecision::kBudget:
    case SharedDecision::kNone:
      break;
  }
  return Exhausted(tenant, "budget.tokens", rules.budget_tokens.value, decision.wait);
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
  if (limits_ != nullptr) End(0, /*ran=*/false);
}

void TenantLimits::Reservation::Settle(int64_t used) {
  if (limits_ != nullptr) End(used, /*ran=*/true);
}

void TenantLimits::Reservation::End(int64_t used, bool ran) {
  const std::shared_ptr<TenantLimits> limits = std::exchange(limits_, nullptr);
  SharedLimitsLoop* const shared = limits->shared_.get();
  if (shared_.outcome == SharedDecision::kAdmitted)
    return shared->Settle(tenant_, shared_, tokens_, used, ran);
  limits->Settle(tenant_, number_, tokens_, used, ran);
  if (shared != nullptr) shared->CountLocal(tenant_, SharedRulesOf(rules_), tokens_, used);
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
  while (all_returns > size - level && !returns.empty()) {
    const auto oldest = returns.begin();
    const double lost = std::min(oldest->second, all_returns - (size - level));
    oldest->second -= lost;
    all_returns -= lost;
    if (oldest->second <= 0) returns.erase(oldest);
  }
}

void TenantLimits::Bucket::Take(int64_t call, double amount) {
  level -= amount;
  returns[call] = amount;
  all_returns += amount;
}

void TenantLimits::Bucket::GiveBack(int64_t call, double amount) {
  double most = 0;
  if (const auto it = returns.find(call); it != returns.end()) {
    most = it->second;
    returns.erase(it);
  }
  level += std::min(amount, most);
  all_returns = returns.empty() ? 0 : all_returns - most;
}

absl::Duration TenantLimits::Bucket::Until(double amount) const {
  if (level >= amount || size <= 0) return absl::ZeroDuration();
  return absl::Seconds((amount - level) / size * 60);
}

absl::Status TenantLimits::Check(const std::string& tenant, const Account& account,
                                 const TenantEntry& rules, int64_t tokens, absl::Time now) const {
  const auto amount = static_cast<double>(tokens);
  const int64_t tpm = rules.tpm.value;
  if (const int64_t budget = rules.budget_tokens.value; budget > 0) {
    if (account.budget_left < amount)
      return Exhausted(tenant, "budget.tokens", budget, account.budget_end - now);
  }
  if (rules.rpm.value > 0 && account.requests.level < 1)
    return Exhausted(tenant, "rpm", rules.rpm.value, account.requests.Until(1));
  if (tpm > 0 && account.tokens.level < amount)
    return Exhausted(tenant, "tpm", tpm, account.tokens.Until(amount));
  if (rules.parallel > 0 && account.parallel >= rules.parallel)
    return Exhausted(tenant, "parallel", rules.parallel, absl::Seconds(1));
  return absl::OkStatus();
}

TenantLimits::Reserved TenantLimits::Reserve(const std::string& tenant, const TenantEntry& rules,
                                             int64_t tokens, const SharedLimitsSection& together) {
  if (const int64_t tpm = rules.tpm.value; tpm > 0 && tokens > tpm)
    return TooLarge(tenant, tokens, "tpm", tpm);
  if (const int64_t budget = rules.budget_tokens.value; budget > 0 && tokens > budget)
    return TooLarge(tenant, tokens, "budget.tokens", budget);
  if (shared_ != nullptr && HasLimits(rules))
    return ReserveTogether(tenant, rules, tokens, together);
  return ReserveHere(tenant, rules, tokens, /*replicas=*/0);
}

TenantLimits::Reserved TenantLimits::ReserveTogether(const std::string& tenant,
                                                     const TenantEntry& rules, int64_t tokens,
                                                     const SharedLimitsSection& together) {
  SharedDecision decision = shared_->Reserve(tenant, SharedRulesOf(rules), tokens);
  TenantState state;
  const auto left = [](int64_t limit, int64_t remaining) -> LimitState {
    const int64_t clipped = std::clamp<int64_t>(remaining, 0, limit);
    if (limit == 0) return {};
    return {limit, clipped, absl::Minutes(1) * (limit - clipped) / limit};
  };
  state.requests = left(rules.rpm.value, decision.requests_left);
  state.tokens = left(rules.tpm.value, decision.tokens_left);
  switch (decision.outcome) {
    case SharedDecision::kAdmitted:
      return std::make_unique<Reservation>(shared_from_this(), tenant, rules, tokens, state,
                                           std::move(decision), /*number=*/0);
    case SharedDecision::kRefused:
      return WithLimits(RefusalOf(tenant, rules, decision), state);
    case SharedDecision::kOutage:
      break;
  }
  if (together.on_outage == "block") {
    return WithRetryAfter(
        absl::UnavailableError("limits are counted by all servers together (limits.shared), and "
                               "what counts them does not answer: try again"),
        absl::Seconds(1));
  }
  const int32_t replicas = std::max(1, together.replicas);
  ASSIGN_OR_RETURN(std::unique_ptr<Reservation> here,
                   ReserveHere(tenant, PartOf(rules, replicas), tokens, replicas));
  shared_->CountLocal(tenant, SharedRulesOf(rules), tokens, std::nullopt);
  return here;
}

/// This server's part for an outage begins with its part of what Redis last said was left.
void TenantLimits::BeginPart(const std::string& tenant, Account& account, int32_t replicas,
                             absl::Time now) {
  const int64_t outage = shared_->outage();
  if (account.outage == outage) return;
  account.outage = outage;
  const auto known = shared_->LastKnown(tenant);
  if (!known) return;
  for (const auto& [bucket, left] : {std::pair(&account.requests, known->requests_left),
                                     {&account.tokens, known->tokens_left}}) {
    if (bucket->size <= 0) continue;
    bucket->level = std::min(bucket->size, static_cast<double>(left) / replicas);
    bucket->at = now;
  }
  account.budget_left = static_cast<double>(account.budget_size - known->budget_used) / replicas;
}

/// Another window, if this one has ended; the first goes on where the process before had it.
void TenantLimits::RenewBudget(const std::string& tenant, Account& account,
                               const TenantEntry& rules, absl::Time now) {
  const int64_t budget = rules.budget_tokens.value;
  const bool fresh = account.budget_size == 0;
  if (account.budget_end > now && (!fresh || budget == 0)) {
    account.budget_left += static_cast<double>(budget - account.budget_size);
    account.budget_size = budget;
    return;
  }
  account.budget_left = static_cast<double>(budget) - account.reserved;  // of calls that still run
  account.budget_size = budget;
  account.budget_end = now + rules.budget_per;
  if (shared_ != nullptr || usage_ == nullptr || budget == 0) return;
  const absl::Time today = absl::Now();
  if (fresh) {
    const UsageBook::Window before = usage_->WindowOf(tenant);
    if (before.end > today && before.end <= today + rules.budget_per) {
      account.budget_left -= static_cast<double>(before.used);
      account.budget_end = now + (before.end - today);
      return;
    }
  }
  usage_->BeginWindow(tenant, today + rules.budget_per);
}

TenantLimits::Reserved TenantLimits::ReserveHere(const std::string& tenant,
                                                 const TenantEntry& rules, int64_t tokens,
                                                 int32_t replicas) {
  const absl::Time now = clock_->Now();
  TenantState state;
  std::lock_guard lock(mutex_);
  if (accounts_.size() >= kManyAccounts && !accounts_.contains(tenant)) ForgetIdle(now);
  Account& account = accounts_[tenant];
  account.requests.Refill(static_cast<double>(rules.rpm.value), now);
  account.tokens.Refill(static_cast<double>(rules.tpm.value), now);
  RenewBudget(tenant, account, rules, now);
  if (replicas > 0) BeginPart(tenant, account, replicas, now);
  const auto amount = static_cast<double>(tokens);
  const auto take = [&](Bucket& bucket, int64_t limit, double how_much, LimitState& left) {
    if (limit <= 0) return;
    if (how_much > 0) bucket.Take(num_calls_, how_much);
    left = {limit, static_cast<int64_t>(std::max(0.0, bucket.level)), bucket.Until(bucket.size)};
  };
  if (absl::Status refused = Check(tenant, account, rules, tokens, now); !refused.ok()) {
    take(account.requests, rules.rpm.value, 0, state.requests);
    take(account.tokens, rules.tpm.value, 0, state.tokens);
    return WithLimits(std::move(refused), state);
  }
  ++num_calls_;
  take(account.requests, rules.rpm.value, 1, state.requests);
  take(account.tokens, rules.tpm.value, amount, state.tokens);
  account.budget_left -= amount;
  account.reserved += amount;
  ++account.parallel;
  return std::make_unique<Reservation>(shared_from_this(), tenant, rules, tokens, state,
                                       SharedDecision(), num_calls_);
}

void TenantLimits::Settle(const std::string& tenant, int64_t call, int64_t reserved, int64_t used,
                          bool ran) {
  const absl::Time now = clock_->Now();
  std::lock_guard lock(mutex_);
  const auto it = accounts_.find(tenant);
  if (it == accounts_.end()) return;
  Account& account = it->second;
  const auto back = static_cast<double>(reserved - used);
  --account.parallel;
  account.reserved -= static_cast<double>(reserved);
  const auto budget = static_cast<double>(account.budget_size);
  account.budget_left = std::min(account.budget_left + back, budget - account.reserved);
  account.tokens.Refill(account.tokens.size, now);
  account.tokens.GiveBack(call, back);
  account.requests.Refill(account.requests.size, now);
  account.requests.GiveBack(call, ran ? 0 : 1);
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
