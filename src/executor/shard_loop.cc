#include "executor/shard_loop.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/patient_wait.h"

namespace penstock {
namespace {

constexpr auto kMoment = std::chrono::microseconds(50);

/// What the rank throws ends the others' work too.
void DoWork(const ShardLoop::Work& work, int32_t rank, Collective& collective) {
  const auto died = [&](std::string_view why) {
    collective.Abort(absl::InternalError(
        absl::StrCat("rank ", rank, " of ", collective.size(),
                     " has died: ", absl::string_view(why.data(), why.size()))));
  };
  try {
    work(rank);
  } catch (const std::exception& e) {
    died(e.what());
  } catch (...) {
    died("of an unknown exception");
  }
}

void RunShard(int32_t rank, Collective& collective, ShardProgress& progress) {
  uint64_t seen = 0;
  while (true) {
    SpinFor(kMoment, [&] { return progress.started.load(std::memory_order_acquire) != seen; });
    std::unique_lock lock(progress.mutex);
    progress.changed.wait(lock,
                          [&] { return progress.started.load() != seen || progress.stopping; });
    if (progress.stopping) return;
    seen = progress.started.load();
    const ShardLoop::Work work = progress.work;
    lock.unlock();
    DoWork(work, rank, collective);
    lock.lock();
    progress.done[rank] = seen;
    progress.num_busy.fetch_sub(1, std::memory_order_release);
    lock.unlock();
    progress.changed.notify_all();
  }
}

}  // namespace

ShardLoop::ShardLoop(int32_t rank, Collective* collective, const WorkerPool* pool,
                     std::shared_ptr<ShardProgress> progress)
    : thread_([=, progress = std::move(progress)] {
        pthread_setname_np(pthread_self(), absl::StrCat("rank-", rank).c_str());
        if (pool != nullptr) pool->PlaceCaller();
        RunShard(rank, *collective, *progress);
      }) {}

ShardLoop::~ShardLoop() {
  if (thread_.joinable()) thread_.join();
}

absl::Status RunOnRanks(ShardProgress& progress, Collective& collective, absl::Duration patience,
                        const ShardLoop::Work& work, std::vector<int32_t>& stalled) {
  std::unique_lock lock(progress.mutex);
  const auto size = static_cast<int32_t>(progress.done.size());
  progress.work = work;
  progress.num_busy.store(size);
  const uint64_t number = progress.started.fetch_add(1) + 1;
  lock.unlock();
  progress.changed.notify_all();
  const auto num_busy = [&] { return progress.num_busy.load(std::memory_order_acquire); };
  SpinFor(kMoment, [&] { return num_busy() == 0; });
  lock.lock();
  // Work takes what it takes; once one is done, or one has failed, the others are about to be.
  progress.changed.wait(lock, [&] { return num_busy() < size; });
  const auto all_done = [&] { return num_busy() == 0; };
  WaitPatiently(lock, progress.changed, patience, [&] { return all_done() || !collective.ok(); });
  if (!WaitPatiently(lock, progress.changed, patience / 4, all_done)) {
    for (int32_t r = 0; r < size; ++r) {
      if (progress.done[r] < number) stalled.push_back(r);
    }
    lock.unlock();
    collective.Abort(absl::DeadlineExceededError(
        absl::StrCat("rank ", absl::StrJoin(stalled, ", "), " of ", size,
                     " has stalled: it did not come back within ", absl::FormatDuration(patience),
                     " of the others")));
  }
  return collective.status();
}

}  // namespace penstock
