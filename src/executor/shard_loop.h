// The thread of one rank of several that share a model's layers: does what it is given, as all the
// others do at the same time, and says when it is done.
// Owns its thread; borrows the collective. Must not know models.
// Threads: made, started and abandoned by one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/collective.h"
#include "base/patient_wait.h"
#include "base/worker_pool.h"

namespace penstock {

/// Where ranks are told and report, without a lock. Outlives whoever waits: a rank that never came
/// back still holds it.
struct ShardProgress {
  struct Rank {
    std::atomic<uint64_t> done{0};  // works
  };
  explicit ShardProgress(size_t size) : ranks(size) {}

  std::vector<Rank> ranks;
  Bell go;                           // rung for the ranks
  Bell finished;                     // rung by each that is done
  std::atomic<uint64_t> started{0};  // works given out
  std::atomic<bool> stopping{false};
  std::function<void(int32_t rank)> work;  // the same while any rank is at it
};

class ShardLoop {
 public:
  using Work = std::function<void(int32_t rank)>;

  ShardLoop(int32_t rank, Collective* collective, const WorkerPool* pool,
            std::shared_ptr<ShardProgress> progress);
  ~ShardLoop();
  /// Leaves the thread to itself: it does not come back.
  void Abandon() { thread_.detach(); }

 private:
  std::thread thread_;
};

/// Their threads end, which are at no work.
void StopRanks(ShardProgress& progress);

/// Has all ranks do `work` and waits for them. An error aborts the collective: one that a rank threw,
/// or that a rank did not come back within `patience` of the others. `stalled` then has those.
absl::Status RunOnRanks(ShardProgress& progress, Collective& collective, absl::Duration patience,
                        const ShardLoop::Work& work, std::vector<int32_t>& stalled);

}  // namespace penstock
