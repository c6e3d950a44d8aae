// Whose turn it is among tenants of one priority: start-time fair queueing (Goyal, Vin, Cheng 1996)
// over tokens, with what a request was expected to cost settled by what it did cost, as the counters
// of "Fairness in Serving Large Language Models" (Sheng et al. 2024) do.
// Owns the tenants' accounts. Must not know queues.
// Threads: confined to the engine thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

namespace penstock {

class FairClock {
 public:
  /// The turn of a request that arrives: lower goes first, ties by arrival. `cost`: tokens that it
  /// may take. Those of one tenant never decrease; one who was idle begins where the others are.
  uint64_t Arrive(const std::string& tenant, int64_t cost) {
    Account& account = accounts_[tenant];
    account.turn = std::max({account.turn, account.next, now_});
    account.next = account.turn + static_cast<uint64_t>(std::max<int64_t>(1, cost));
    ++account.live;
    ++live_;
    return account.turn;
  }
  /// Its first step is planned.
  void Begin(uint64_t turn) { now_ = std::max(now_, turn); }
  /// It has ended: of `cost` tokens it took `used`.
  void End(const std::string& tenant, int64_t cost, int64_t used) {
    const auto it = accounts_.find(tenant);
    if (it == accounts_.end()) return;
    Account& account = it->second;
    const auto rest =
        static_cast<uint64_t>(std::max<int64_t>(0, std::max<int64_t>(1, cost) - used));
    account.next -= std::min(account.next, rest);
    --account.live;
    if (--live_ == 0) return accounts_.clear();  // nobody owes anybody anything
    // Who owes nothing is forgotten; where there are too many, who has nothing running is.
    if (account.live == 0 && account.next <= now_) accounts_.erase(it);
    if (accounts_.size() > kManyAccounts) EraseIdle();
  }
  size_t num_accounts() const { return accounts_.size(); }

 private:
  static constexpr size_t kManyAccounts = 1024;

  struct Account {
    uint64_t turn = 0;  // of the latest arrival
    uint64_t next = 0;  // the earliest of the next
    int64_t live = 0;   // requests
  };
  void EraseIdle() {
    std::erase_if(accounts_, [](const auto& entry) { return entry.second.live == 0; });
  }

  int64_t live_ = 0;
  uint64_t now_ = 0;  // the latest turn that has begun
  std::map<std::string, Account> accounts_;
};

}  // namespace penstock
