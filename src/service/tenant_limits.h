// What tenants have left of their limits: reserved before a call runs, settled by what it took.
// Owns the tenants' accounts of this server; those of several lie in Redis (shared_limits_loop.h).
// Must not know models, callers or the wire.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "penstock/config.h"
#include "penstock/service.h"
#include "service/shared_limits_loop.h"

namespace penstock {

/// The rules of a tenant: its own, else those of "*"; null: no limits.
const TenantEntry* RulesOf(const ServerConfig& config, const std::string& tenant);

class TenantLimits : public std::enable_shared_from_this<TenantLimits> {
 public:
  /// `shared` null: every limit is this server's own. `usage` null: budgets begin with the process.
  explicit TenantLimits(const Clock* clock, std::shared_ptr<SharedLimitsLoop> shared = nullptr,
                        std::shared_ptr<UsageBook> usage = nullptr)
      : clock_(clock), shared_(std::move(shared)), usage_(std::move(usage)) {}

  /// One admitted call. Gives back what it did not take when it is settled or destroyed.
  class Reservation {
   public:
    Reservation(std::shared_ptr<TenantLimits> limits, std::string tenant, TenantEntry rules,
                int64_t tokens, TenantState state, SharedDecision shared, int64_t number)
        : limits_(std::move(limits)),
          tenant_(std::move(tenant)),
          rules_(std::move(rules)),
          tokens_(tokens),
          state_(state),
          shared_(std::move(shared)),
          number_(number) {}
    /// Destroyed unsettled it has cost nothing, as a call that never ran.
    ~Reservation();
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    /// The call has ended and took so many tokens. Once.
    void Settle(int64_t used);
    /// When it was admitted.
    const TenantState& state() const { return state_; }

   private:
    std::shared_ptr<TenantLimits> limits_;  // null: settled
    void End(int64_t used, bool ran);

    const std::string tenant_;
    const TenantEntry rules_;
    const int64_t tokens_;
    const TenantState state_;
    const SharedDecision shared_;  // kAdmitted: by all servers together
    const int64_t number_;         // of the call, where this server admitted it alone
  };
  using Reserved = absl::StatusOr<std::unique_ptr<Reservation>>;

  /// Takes a request of `tokens` from every limit of `rules`, or from none: RESOURCE_EXHAUSTED that
  /// names the limit and says when to try again; INVALID_ARGUMENT for more than a limit can ever
  /// give. Rules may change between calls: what is left is bounded by the new ones.
  /// `together`: what holds while other servers cannot be asked. UNAVAILABLE where nothing does.
  Reserved Reserve(const std::string& tenant, const TenantEntry& rules, int64_t tokens,
                   const SharedLimitsSection& together = {});

 private:
  /// Fills with time up to its size. A debt is what calls took beyond their reservation.
  struct Bucket {
    double level = 0;
    double size = 0;  // also what flows in during a minute; 0: never used
    absl::Time at;
    std::map<int64_t, double> returns;  // what may yet come back of each call, the oldest first
    double all_returns = 0;
    void Refill(double new_size, absl::Time now);
    void Take(int64_t call, double amount);
    /// What comes back after the bucket has refilled would have run over: it does not count.
    void GiveBack(int64_t call, double amount);
    absl::Duration Until(double amount) const;  // that much is there
  };
  struct Account {
    Bucket requests, tokens;
    int64_t parallel = 0;  // calls that run
    double reserved = 0;   // tokens of them
    double budget_left = 0;
    int64_t budget_size = 0;
    absl::Time budget_end = absl::InfinitePast();
    int64_t outage = 0;  // of which this is the part that this server gives alone
  };

  absl::Status Check(const std::string& tenant, const Account& account, const TenantEntry& rules,
                     int64_t tokens, absl::Time now) const;
  Reserved ReserveTogether(const std::string& tenant, const TenantEntry& rules, int64_t tokens,
                           const SharedLimitsSection& together);
  Reserved ReserveHere(const std::string& tenant, const TenantEntry& rules, int64_t tokens,
                       int32_t replicas);
  void BeginPart(const std::string& tenant, Account& account, int32_t replicas, absl::Time now);
  void RenewBudget(const std::string& tenant, Account& account, const TenantEntry& rules,
                   absl::Time now);
  void Settle(const std::string& tenant, int64_t call, int64_t reserved, int64_t used, bool ran);
  void ForgetIdle(absl::Time now);

  const Clock* const clock_;
  const std::shared_ptr<SharedLimitsLoop> shared_;
  const std::shared_ptr<UsageBook> usage_;
  std::mutex mutex_;  // guards from here
  absl::flat_hash_map<std::string, Account> accounts_;
  int64_t num_calls_ = 0;  // admitted
};

}  // namespace penstock
