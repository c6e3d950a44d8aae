#include "base/placement.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <set>
#include <thread>

#include "base/worker_pool.h"

namespace penstock {
namespace {

/// CPUs that this process may use.
std::vector<int> Allowed() {
  cpu_set_t set;
  EXPECT_EQ(::sched_getaffinity(0, sizeof(set), &set), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

TEST(Placement, ReadsListsOfCpus) {
  const std::vector<int> cpus = Allowed();
  const std::string first = std::to_string(cpus[0]);
  EXPECT_EQ(*ParseCpuList(first), std::vector<int>{cpus[0]});
  if (cpus.size() > 1 && cpus[1] == cpus[0] + 1) {
    EXPECT_EQ(*ParseCpuList(std::to_string(cpus[1]) + "," + first),
              (std::vector<int>{cpus[1], cpus[0]}));
    EXPECT_EQ(*ParseCpuList(first + "-" + std::to_string(cpus[1])),
              (std::vector<int>{cpus[0], cpus[1]}));
  }
  for (const std::string& bad :
       {std::string(""), std::string("a"), std::string("3-"), std::string("2-1"),
        first + "," + first, std::string("-1"), std::string("0,,1"), std::string("99999999999"),
        std::string("0-4000000000")}) {
    EXPECT_EQ(ParseCpuList(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(ParseCpuList("1023").ok());
}

TEST(Placement, PutsThePoolsThreadsOnTheirCpus) {
  const std::vector<int> cpus = Allowed();
  if (cpus.size() < 2) GTEST_SKIP() << "one CPU";
  WorkerPool pool(2, {cpus[1], cpus[0]});
  std::thread caller([&] {
    pool.PlaceCaller();
    std::mutex mutex;
    std::set<std::pair<std::thread::id, int>> seen;
    std::atomic<int> arrived = 0;
    pool.ParallelFor(2, [&](int64_t) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();  // so that each thread has one
      std::lock_guard lock(mutex);
      seen.insert({std::this_thread::get_id(), ::sched_getcpu()});
    });
    EXPECT_EQ(seen.size(), 2u);
    for (const auto& [thread, cpu] : seen)
      EXPECT_EQ(cpu, thread == std::this_thread::get_id() ? cpus[1] : cpus[0]);
  });
  caller.join();
  EXPECT_EQ(Allowed(), cpus);  // this thread is where it was
}

TEST(Placement, SpreadsMemoryWhereThereAreNodes) {
  std::thread([] {  // the policy is the thread's
    const auto nodes = InterleaveMemory();
    if (nodes.ok())
      EXPECT_GE(*nodes, 1);
    else
      EXPECT_EQ(nodes.status().code(), absl::StatusCode::kFailedPrecondition);
  })
      .join();
}

}  // namespace
}  // namespace penstock
