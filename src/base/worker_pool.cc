#include "base/worker_pool.h"

#include <chrono>
#include <utility>

#include "base/placement.h"
#include "base/status_macros.h"
#include "base/thread_name.h"

namespace penstock {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);

/// Spins until `done()`, giving the core away now and then once `kSpin` is over. For waits that end
/// within a tile.
template <class Done>
void SpinUntil(const Done& done) {
  for (int spins = 0; !done(); ++spins) {
    if (spins < 4096) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

WorkerPool::WorkerPool(int num_threads, std::vector<int> cpus) : cpus_(std::move(cpus)) {
  for (int i = 1; i < num_threads; ++i) {
    threads_.emplace_back([this, i] {
      NameThread("compute");
      Place(i);
      WorkerLoop();
    });
  }
}

/// Where that fails the thread runs elsewhere: slower, perhaps, and as right.
void WorkerPool::Place(size_t thread) const {
  if (!cpus_.empty()) PinThread(cpus_[thread % cpus_.size()]).IgnoreError();
}

void WorkerPool::PlaceCaller() const { Place(0); }

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_.store(true);
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
}

void WorkerPool::Run(int64_t num_tiles, TileFn call, const void* fn) {
  CHECK(num_tiles < (int64_t{1} << 32));
  const uint32_t ticket = next_ticket_.fetch_add(1);
  for (uint32_t serving = now_serving_.load(); serving != ticket; serving = now_serving_.load()) {
    now_serving_.wait(serving);
  }
  // No worker holds a tile now. A late one may still look at the cursor, which matches no epoch but
  // its own.
  const uint64_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  num_done_.store(0, std::memory_order_relaxed);
  num_tiles_.store(num_tiles, std::memory_order_relaxed);
  call_.store(call, std::memory_order_relaxed);
  fn_.store(fn, std::memory_order_relaxed);
  cursor_.store(epoch << 32, std::memory_order_release);
  epoch_.store(epoch);  // sequentially consistent with num_asleep_ below: a sleeper is counted, or
                        // it sees the epoch
  if (num_asleep_.load() > 0) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  WorkOn(epoch);
  SpinUntil([&] { return num_done_.load(std::memory_order_acquire) == num_tiles; });
  cursor_.store((epoch << 32) | 0xffffffffu, std::memory_order_release);
  now_serving_.fetch_add(1);
  now_serving_.notify_all();
}

void WorkerPool::WorkOn(uint64_t epoch) {
  uint64_t cursor = cursor_.load(std::memory_order_acquire);
  while (true) {
    if ((cursor >> 32) != (epoch & 0xffffffffu)) return;
    const auto tile = static_cast<int64_t>(cursor & 0xffffffffu);
    const int64_t num_tiles = num_tiles_.load(std::memory_order_relaxed);
    if (tile >= num_tiles) return;
    const TileFn call = call_.load(std::memory_order_relaxed);
    const void* fn = fn_.load(std::memory_order_relaxed);
    // Taking the tile proves that the epoch still runs, hence that the four values above belong to
    // it.
    if (!cursor_.compare_exchange_weak(cursor, cursor + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    call(fn, tile);
    num_done_.fetch_add(1, std::memory_order_acq_rel);
    cursor = cursor_.load(std::memory_order_acquire);
  }
}

uint64_t WorkerPool::AwaitEpoch(uint64_t seen) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      const uint64_t epoch = epoch_.load(std::memory_order_acquire);
      if (epoch != seen) return epoch;
      __builtin_ia32_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  std::unique_lock lock(mutex_);
  num_asleep_.fetch_add(1);
  wake_.wait(lock, [&] { return epoch_.load() != seen; });
  num_asleep_.fetch_sub(1);
  return epoch_.load();
}

void WorkerPool::WorkerLoop() {
  uint64_t epoch = 0;
  while (true) {
    epoch = AwaitEpoch(epoch);
    if (stopping_.load()) return;
    WorkOn(epoch);
  }
}

}  // namespace penstock
