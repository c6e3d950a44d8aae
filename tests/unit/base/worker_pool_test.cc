#include "base/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

namespace penstock {
namespace {

TEST(WorkerPool, RunsEveryTileOnce) {
  for (const int threads : {1, 2, 5}) {
    WorkerPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int64_t tiles = 0; tiles < 200; ++tiles) {
      std::vector<std::atomic<int>> runs(tiles);
      pool.ParallelFor(tiles, [&](int64_t tile) { runs[tile].fetch_add(1); });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(WorkerPool, SeesWritesOfTheCallerAndGivesBackThoseOfTheTiles) {
  WorkerPool pool(3);
  std::vector<int> in(64), out(64);
  for (int round = 0; round < 2000; ++round) {
    for (int& v : in) v = round;
    pool.ParallelFor(64, [&](int64_t i) { out[i] = in[i] + static_cast<int>(i); });
    for (int i = 0; i < 64; ++i) ASSERT_EQ(out[i], round + i);
  }
}

TEST(WorkerPool, ServesSeveralCallersInTurn) {
  WorkerPool pool(3);
  std::atomic<int64_t> total{0};
  {
    std::vector<std::jthread> callers;
    for (int c = 0; c < 4; ++c) {
      callers.emplace_back([&] {
        for (int round = 0; round < 300; ++round) {
          int64_t sum = 0;
          std::vector<int64_t> parts(17);
          pool.ParallelFor(17, [&](int64_t i) { parts[i] = i; });
          for (const int64_t part : parts) sum += part;
          total.fetch_add(sum);
        }
      });
    }
  }
  EXPECT_EQ(total.load(), 4 * 300 * 136);
}

TEST(WorkerPool, AnotherThreadTakesTheTilesOfABusyOne) {
  WorkerPool pool(2);
  // Tile 0 ends only once all the others have run: a static split would never end.
  std::atomic<int> others{0};
  pool.ParallelFor(50, [&](int64_t tile) {
    if (tile != 0) {
      others.fetch_add(1);
      others.notify_all();
      return;
    }
    for (int seen = others.load(); seen != 49; seen = others.load()) others.wait(seen);
  });
  EXPECT_EQ(others.load(), 49);
}

TEST(WorkerPool, UsesNoProcessorTimeWhenIdle) {
  WorkerPool pool(4);
  pool.ParallelFor(100, [](int64_t) {});
  // The main thread waits on another one that waits for nothing: all that may still run is the
  // pool's spin.
  const std::clock_t begin = std::clock();
  std::atomic<bool> flag{false};
  std::jthread waker([&] {
    timespec t{0, 100'000'000};
    nanosleep(&t, nullptr);
    flag.store(true);
    flag.notify_all();
  });
  flag.wait(false);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 0.03);
}

}  // namespace
}  // namespace penstock
