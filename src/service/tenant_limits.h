// What tenants have left of their limits: reserved before a call runs, settled by what it took.
// Owns the tenants' accounts. Must not know models, callers or the wire.
// Threads: thread-safe.
#pragma once

#include <cstdint>
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

namespace penstock {

/// The rules of a tenant: its own, else those of "*"; null: no limits.
const TenantEntry* RulesOf(const ServerConfig& config, const std::string& tenant);

class TenantLimits : public std::enable_shared_from_this<TenantLimits> {
 public:
  explicit TenantLimits(const Clock* clock) : clock_(clock) {}

  /// One admitted call. Gives back what it did not take when it is settled or destroyed.
  class Reservation {
   public:
    Reservation(std::shared_ptr<TenantLimits> limits, std::string tenant, int64_t tokens,
                TenantState state)
        : limits_(std::move(limits)), tenant_(std::move(tenant)), tokens_(tokens), state_(state) {}
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
    const std::string tenant_;
    const int64_t tokens_;
    const TenantState state_;
  };
  using Reserved = absl::StatusOr<std::unique_ptr<Reservation>>;

  /// Takes a request of `tokens` from every limit of `rules`, or from none: RESOURCE_EXHAUSTED that
  /// names the limit and says when to try again; INVALID_ARGUMENT for more than a limit can ever
  /// give. Rules may change between calls: what is left is bounded by the new ones.
  Reserved Reserve(const std::string& tenant, const TenantEntry& rules, int64_t tokens);

 private:
  /// Fills with time up to its size. A debt is what calls took beyond their reservation.
  struct Bucket {
    double level = 0;
    double size = 0;  // also what flows in during a minute; 0: never used
    absl::Time at;
    void Refill(double new_size, absl::Time now);
    absl::Duration Until(double amount) const;  // that much is there
  };
  struct Account {
    Bucket requests, tokens;
    int64_t parallel = 0;  // calls that run
    double budget_left = 0;
    int64_t budget_size = 0;
    absl::Time budget_end = absl::InfinitePast();
  };

  absl::Status Check(const std::string& tenant, const Account& account, const TenantEntry& rules,
                     int64_t tokens, absl::Time now) const;
  void Settle(const std::string& tenant, int64_t reserved, int64_t used, bool ran);
  void ForgetIdle(absl::Time now);

  const Clock* const clock_;
  std::mutex mutex_;  // guards from here
  absl::flat_hash_map<std::string, Account> accounts_;
};

}  // namespace penstock
