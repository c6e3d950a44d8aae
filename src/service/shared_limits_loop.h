// Tenants' limits that several servers give together: asks a Redis, and knows when it cannot.
// Owns its thread, the connection and what this server has taken of budgets. Must not know requests.
// Threads: thread-safe; Reserve waits for tens of milliseconds at most, and not at all while Redis
// is known not to answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mailbox.h"
#include "metrics/catalogue.h"
#include "service/redis_connection.h"

namespace penstock {

class UsageBook;

/// A tenant's limits; 0: none.
struct SharedRules {
  int64_t rpm = 0, tpm = 0, parallel = 0, budget = 0;
  absl::Duration budget_per = absl::Hours(1);
};

/// What was decided of one request.
struct SharedDecision {
  enum Outcome : uint8_t { kAdmitted, kRefused, kOutage };
  enum Limit : uint8_t { kNone, kRequests, kTokens, kParallel, kBudget };
  Outcome outcome = kOutage;
  Limit limit = kNone;  // that refuses
  absl::Duration wait;  // until it would give
  int64_t requests_left = 0, tokens_left = 0;
  std::string lease;  // admitted: names it to Settle
  std::string epoch;
};

class SharedLimitsLoop {
 public:
  struct Options {
    std::string host;
    int port = 0;
    std::string password;
    std::shared_ptr<UsageBook> usage;  // what was taken before this process; null: nothing is known
    AccountMetrics metrics;
    std::function<void(bool failed, std::string_view line)> log;
  };
  explicit SharedLimitsLoop(Options options);
  ~SharedLimitsLoop();

  SharedDecision Reserve(const std::string& tenant, const SharedRules& rules, int64_t tokens);
  /// An admitted request has ended and took `used` of the `reserved`; `ran`: it counts as one.
  void Settle(const std::string& tenant, const SharedDecision& decision, int64_t reserved,
              int64_t used, bool ran);
  /// A request that was admitted without Redis is begun (`used` nullopt), or ended. Redis is told.
  void CountLocal(const std::string& tenant, const SharedRules& rules, int64_t reserved,
                  std::optional<int64_t> used);

  /// What Redis said last of a tenant.
  struct Known {
    int64_t requests_left = 0, tokens_left = 0, budget_used = 0;
    absl::Time at;
  };
  std::optional<Known> LastKnown(const std::string& tenant) const;
  /// Which outage this is: a number that rises.
  int64_t outage() const { return outages_; }
  bool up() const { return up_; }

 private:
  struct Pending;  // a request that waits for its decision
  struct Change {
    std::string tenant, lease, epoch;
    SharedRules rules;        // of a local one
    int64_t reserved = 0;     // to be added to what is reserved; negative: taken off
    int64_t used = 0;         // to be added to what was taken
    int64_t tokens_back = 0;  // into the bucket; negative: owed to it
    int64_t requests_back = 0;
  };
  struct Letter {
    std::shared_ptr<Pending> ask;  // null: a change
    Change change;
  };
  /// This server's part of a tenant's accounts.
  struct Book {
    SharedRules rules;
    int64_t window = -1;
    bool begun = false;                 // the book of usage knows the window
    int64_t settled = 0, reserved = 0;  // of the budget
    std::set<std::string> leases;       // of requests that run, where `parallel` is a limit
    int64_t owed_tokens = 0, owed_requests = 0;  // taken without Redis, to be told
  };
  struct Command;

  void Run();
  void Connect();
  void Fail(const absl::Status& why);
  void Work(std::vector<Letter> messages);
  void TakeChange(Change& change, std::vector<Command>& commands);
  void Tell(Change change);
  bool Send(const std::vector<Command>& commands);
  bool SendOnce(const std::vector<Command>& commands, std::vector<Command>* stale);
  void Renew();
  Book& BookOf(const std::string& tenant);
  std::vector<std::string> Arguments(const Command& command, bool with_own);
  void TakeReply(const Command& command, const RedisConnection::Reply& reply);

  const Options options_;
  std::string server_;  // names this server to Redis
  std::atomic<bool> up_{false}, stopped_{false};
  std::atomic<int64_t> outages_{1}, next_lease_{1};
  std::atomic<int> num_asks_{0};  // in messages_
  Mailbox<Letter> messages_{0};   // changes are as many as requests run

  mutable std::mutex known_mutex_;
  absl::flat_hash_map<std::string, Known> known_;  // guarded by known_mutex_

  // The loop's thread only, to here.
  std::unique_ptr<RedisConnection> connection_;
  std::string script_;  // its digest
  std::string epoch_;   // of Redis; empty: none seen
  std::string complaint_;
  int64_t number_ = 0;  // of the last command, or one that Redis has seen after it
  absl::Time next_try_ = absl::InfinitePast(), next_renewal_ = absl::InfinitePast();
  absl::Duration pause_;
  std::map<std::string, Book> books_;

  std::thread thread_;
};

}  // namespace penstock
