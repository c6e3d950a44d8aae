// Sequences that wait to run, best rank first. A preempted one keeps its rank, so it returns to its
// old place.
// Owns nothing. Must not know blocks or steps.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "engine/fair_clock.h"
#include "engine/sequence.h"
#include "penstock/engine.h"

namespace penstock {

enum class QueuePolicy : uint8_t {
  kPriority,  // strict priorities, in each fair among tenants, then first come, first served
  kFcfs,      // priorities and tenants are ignored
};

class WaitQueue {
 public:
  explicit WaitQueue(QueuePolicy policy) : policy_(policy) {}

  /// Gives a new sequence its rank.
  void Assign(Sequence& seq) {
    seq.rank = {0, 0, next_arrival_++};
    if (policy_ == QueuePolicy::kFcfs) return;
    seq.rank.priority = seq.request.priority;
    seq.rank.turn = clocks_[seq.rank.priority].Arrive(seq.request.tenant, Cost(seq));
  }
  /// Its first step is planned.
  void Begin(const Sequence& seq) {
    if (policy_ != QueuePolicy::kFcfs) clocks_[seq.rank.priority].Begin(seq.rank.turn);
  }
  /// It has ended, and counts with what it took.
  void End(const Sequence& seq) {
    const auto clock = clocks_.find(seq.rank.priority);
    if (clock == clocks_.end()) return;
    const int64_t used = seq.num_known() - seq.usage.cached_tokens;
    clock->second.End(seq.request.tenant, Cost(seq), seq.has_begun() ? used : 0);
    if (clock->second.num_accounts() == 0) clocks_.erase(clock);
  }
  void Push(Sequence* seq) {
    by_rank_.emplace(seq->rank, Entry{seq, seq->num_known()});
    Count(*seq, 1, seq->num_known());
  }
  void Remove(const Sequence* seq) {
    const auto it = by_rank_.find(seq->rank);
    if (it == by_rank_.end()) return;
    Count(*seq, -1, -it->second.num_tokens);
    by_rank_.erase(it);
  }
  Sequence* front() const { return by_rank_.empty() ? nullptr : by_rank_.begin()->second.sequence; }
  /// The first of `most` that `fits`; null: none.
  template <class Fits>
  Sequence* Find(int most, Fits fits) const {
    for (const auto& [rank, entry] : by_rank_) {
      if (most-- == 0) break;
      if (fits(*entry.sequence)) return entry.sequence;
    }
    return nullptr;
  }
  /// Those with an account at this priority: who waits, runs, or owes.
  size_t num_tenants(int32_t priority) const {
    const auto clock = clocks_.find(priority);
    return clock == clocks_.end() ? 0 : clock->second.num_accounts();
  }
  int32_t size() const { return static_cast<int32_t>(by_rank_.size()); }
  int64_t num_tokens() const { return num_tokens_; }  // to compute, of all that wait
  using Level = std::pair<int32_t, std::string>;      // priority and tenant
  /// The first priority to run first.
  const std::map<Level, WaitingLoad>& levels() const { return levels_; }
  bool has_turns() const { return policy_ != QueuePolicy::kFcfs; }
  uint64_t version() const { return version_; }  // of levels

 private:
  struct Entry {
    Sequence* sequence;
    int64_t num_tokens;  // when it was pushed
  };
  /// Tokens that it may take.
  static int64_t Cost(const Sequence& seq) {
    return int64_t{seq.num_prompt()} + seq.request.max_tokens;
  }
  void Count(const Sequence& seq, int32_t requests, int64_t tokens) {
    num_tokens_ += tokens;
    ++version_;
    const Level key{seq.rank.priority, seq.request.tenant};
    WaitingLoad& level = levels_[key];
    level.priority = key.first;
    level.tenant = key.second;
    level.num_requests += requests;
    level.num_tokens += tokens;
    level.cost += requests * Cost(seq);
    if (level.num_requests == 0) levels_.erase(key);
  }

  const QueuePolicy policy_;
  std::map<int32_t, FairClock> clocks_;  // by priority
  uint64_t next_arrival_ = 0;
  std::map<Rank, Entry> by_rank_;
  std::map<Level, WaitingLoad> levels_;
  uint64_t version_ = 0;
  int64_t num_tokens_ = 0;
};

}  // namespace penstock
