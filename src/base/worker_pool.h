// The process's compute threads. A parallel loop's tiles are stolen from one counter, so a core
// that is busy with something else delays only the tile it holds; a worker without work spins for a
// moment, then sleeps.
// Owns its threads. Must not know what a tile computes.
// Threads: thread-safe; callers take the pool loop by loop, in the order in which they ask.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace penstock {

class WorkerPool {
 public:
  /// `num_threads` counts the caller of ParallelFor as well, so 1 starts no thread. `cpus`: which CPU
  /// each runs on, in turn, the caller's first; empty: wherever the system puts it.
  explicit WorkerPool(int num_threads, std::vector<int> cpus = {});
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Calls fn(tile) once for each tile in [0, num_tiles), on the pool's threads and this one;
  /// returns when all are done. `fn` must not call ParallelFor.
  template <class Fn>
  void ParallelFor(int64_t num_tiles, const Fn& fn) {
    if (num_tiles <= 1 || threads_.empty()) {
      for (int64_t tile = 0; tile < num_tiles; ++tile) fn(tile);
      return;
    }
    Run(
        num_tiles, [](const void* f, int64_t tile) { (*static_cast<const Fn*>(f))(tile); }, &fn);
  }

  /// A thread that does little else than call ParallelFor takes the callers' CPU.
  void PlaceCaller() const;
  /// As they were given.
  const std::vector<int>& cpus() const { return cpus_; }
  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

 private:
  using TileFn = void (*)(const void* fn, int64_t tile);

  void Run(int64_t num_tiles, TileFn call, const void* fn);
  void WorkerLoop();
  void Place(size_t thread) const;
  void WorkOn(uint64_t epoch);
  /// Waits until the epoch differs from `seen`: spins, then sleeps. Returns the new one.
  uint64_t AwaitEpoch(uint64_t seen);

  // One ticket per caller, served in order: a loop of one engine follows a loop of another.
  std::atomic<uint32_t> next_ticket_{0};
  std::atomic<uint32_t> now_serving_{0};

  // The loop in progress. `cursor_` holds the low 32 bits of its epoch above the next tile, so that
  // a worker that wakes late can neither take a tile of, nor read the function of, a loop that is
  // over.
  std::atomic<uint64_t> cursor_{0};
  std::atomic<int64_t> num_tiles_{0};
  std::atomic<TileFn> call_{nullptr};
  std::atomic<const void*> fn_{nullptr};
  std::atomic<int64_t> num_done_{0};

  std::atomic<uint64_t> epoch_{0};
  std::atomic<int> num_asleep_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::vector<int> cpus_;
  std::vector<std::jthread> threads_;
};

}  // namespace penstock
