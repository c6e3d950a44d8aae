#include "executor/shard_loop.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/thread_name.h"

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
  ShardProgress::Rank& own = progress.ranks[rank];
  uint64_t seen = 0;
  while (true) {
    const auto is_wanted = [&] {
      return progress.started.load(std::memory_order_acquire) != seen || progress.stopping.load();
    };
    if (!SpinFor(kMoment, is_wanted)) WaitFor(progress.go, is_wanted);
    if (progress.stopping.load()) return;
    seen = progress.started.load();
    const ShardLoop::Work work = progress.work;
    DoWork(work, rank, collective);
    own.done.store(seen, std::memory_order_release);
    progress.finished.Ring();
  }
}

}  // namespace

ShardLoop::ShardLoop(int32_t rank, Collective* collective, const WorkerPool* pool,
                     std::shared_ptr<ShardProgress> progress)
    : thread_([=, progress = std::move(progress)] {
        NameThread(absl::StrCat("rank-", rank).c_str());
        if (pool != nullptr) pool->PlaceCaller();
        RunShard(rank, *collective, *progress);
      }) {}

ShardLoop::~ShardLoop() {
  if (thread_.joinable()) thread_.join();
}

void StopRanks(ShardProgress& progress) {
  progress.stopping.store(true);
  progress.go.Ring();
}

absl::Status RunOnRanks(ShardProgress& progress, Collective& collective, absl::Duration patience,
                        const ShardLoop::Work& work, std::vector<int32_t>& stalled) {
  const size_t size = progress.ranks.size();
  progress.work = work;
  const uint64_t number = progress.started.fetch_add(1) + 1;
  progress.go.Ring();
  const auto is_done = [&](const ShardProgress::Rank& rank) {
    return rank.done.load(std::memory_order_acquire) >= number;
  };
  const auto num_done = [&] {
    return static_cast<size_t>(
        std::count_if(progress.ranks.begin(), progress.ranks.end(), is_done));
  };
  SpinFor(kMoment, [&] { return num_done() == size; });
  // Work takes what it takes; once one is done, or one has failed, the others are about to be.
  WaitFor(progress.finished, [&] { return num_done() > 0 || !collective.ok(); });
  const auto all_done = [&] { return num_done() == size; };
  WaitPatiently(progress.finished, patience, [&] { return all_done() || !collective.ok(); });
  if (!WaitPatiently(progress.finished, patience / 8, all_done)) {
    for (size_t r = 0; r < size; ++r) {
      if (!is_done(progress.ranks[r])) stalled.push_back(static_cast<int32_t>(r));
    }
    collective.Abort(absl::DeadlineExceededError(
        absl::StrCat("rank ", absl::StrJoin(stalled, ", "), " of ", size,
                     " has stalled: it did not come back within ", absl::FormatDuration(patience),
                     " of the others")));
  }
  return collective.status();
}

}  // namespace penstock
