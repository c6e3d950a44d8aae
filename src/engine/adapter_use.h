// Which adapters there are, and how many sequences have each: who may run beside whom, and when an
// adapter may go.
// Owns counts. Must not know weights or names.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "penstock/types.h"

namespace penstock {

class AdapterUse {
 public:
  /// `max_running`: different ones in one step.
  explicit AdapterUse(int32_t max_running) : max_running_(max_running) {}

  void Add(AdapterId id) { uses_.try_emplace(id); }
  /// No sequence is taken from now on; false where there is no such adapter.
  bool Retire(AdapterId id);
  /// Retired ones that no sequence has any more, forgotten with this.
  std::vector<AdapterId> TakeIdle();
  bool Takes(AdapterId id) const;

  // Of sequences with any adapter or none. What lives was taken.
  void Begin(AdapterId id);
  void End(AdapterId id);
  /// Whether one more may run now.
  bool MayRun(AdapterId id) const;
  void Run(AdapterId id);
  void Rest(AdapterId id);

  /// Changes with what follows.
  uint64_t version() const { return version_; }
  /// Those of sequences that run, and those of sequences that only wait.
  std::vector<AdapterId> Running() const;
  std::vector<AdapterId> Waiting() const;

 private:
  struct Use {
    int32_t num_live = 0;
    int32_t num_running = 0;
    bool retired = false;
  };

  const int32_t max_running_;
  int32_t num_running_ = 0;  // adapters
  uint64_t version_ = 0;
  absl::flat_hash_map<AdapterId, Use> uses_;
};

}  // namespace penstock
