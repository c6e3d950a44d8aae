// Sequences that wait to run, best rank first. A preempted one keeps its rank, so it returns to its
// old place.
// Owns nothing. Must not know blocks or steps.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <map>

#include "engine/sequence.h"

namespace penstock {

enum class QueuePolicy : uint8_t {
  kPriority,  // strict priorities, then first come, first served
  kFcfs,      // priorities are ignored
};

class WaitQueue {
 public:
  explicit WaitQueue(QueuePolicy policy) : policy_(policy) {}

  /// Gives a new sequence its rank.
  void Assign(Sequence& seq) {
    seq.rank = {policy_ == QueuePolicy::kPriority ? seq.request.priority : 0, next_arrival_++};
  }
  void Push(Sequence* seq) {
    by_rank_.emplace(seq->rank, Entry{seq, seq->num_known()});
    num_tokens_ += seq->num_known();
  }
  void Remove(const Sequence* seq) {
    const auto it = by_rank_.find(seq->rank);
    if (it == by_rank_.end()) return;
    num_tokens_ -= it->second.num_tokens;
    by_rank_.erase(it);
  }
  Sequence* front() const { return by_rank_.empty() ? nullptr : by_rank_.begin()->second.sequence; }
  int32_t size() const { return static_cast<int32_t>(by_rank_.size()); }
  int64_t num_tokens() const { return num_tokens_; }  // to compute, of all that wait

 private:
  struct Entry {
    Sequence* sequence;
    int64_t num_tokens;  // when it was pushed
  };
  const QueuePolicy policy_;
  uint64_t next_arrival_ = 0;
  std::map<Rank, Entry> by_rank_;
  int64_t num_tokens_ = 0;
};

}  // namespace penstock
