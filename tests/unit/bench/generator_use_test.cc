// What the load generator says of itself.
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "bench/load_run.h"
#include "fakes/scripted_load.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

/// Leaves the process `more` descriptors, until it is gone.
class FewDescriptors {
 public:
  explicit FewDescriptors(int more) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{64, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int fd = dup(0); fd >= 0; fd = dup(0)) held_.push_back(fd);
    for (; more > 0; --more, held_.pop_back()) close(held_.back());
  }
  ~FewDescriptors() {
    for (const int fd : held_) close(fd);
    setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_{};
  std::vector<int> held_;
};

TEST(RunLoad, DoesNotBlameTheServerForDescriptorsItLacks) {
  const ScriptedServer server;  // takes connections, and never answers
  Target target;
  target.port = static_cast<uint16_t>(server.port());
  Scenario scenario = Requests(8);
  scenario.concurrency = 4;
  scenario.timeout_seconds = 1;
  const FewDescriptors few(3);  // one of them is the run's own
  const auto result = RunLoad(scenario, target);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->failures, ElementsAre(Pair("generator", 6), Pair("timeout", 2)));
  EXPECT_EQ(result->first_failure, "generator: Too many open files");
  EXPECT_TRUE(result->generator.bottleneck);
}

TEST(Generator, IsTheBottleneckWhereItHasNoTimeLeftOrIsLate) {
  const Distribution closed_loop;
  const GeneratorUse idle = JudgeGenerator(0.5, 10, 1000, closed_loop, {});
  EXPECT_FALSE(idle.bottleneck);
  EXPECT_DOUBLE_EQ(idle.cpu_share, 0.05);
  EXPECT_DOUBLE_EQ(idle.cpu_us_per_piece, 500);
  EXPECT_EQ(idle.late_p99, 0);
  EXPECT_FALSE(JudgeGenerator(8.9, 10, 1000, closed_loop, {}).bottleneck);
  EXPECT_TRUE(JudgeGenerator(9.1, 10, 1000, closed_loop, {}).bottleneck);
  // One late request of a thousand is the machine's, one of fifty is the generator's.
  Distribution once, often;
  for (int i = 0; i < 1000; ++i) {
    once.Add(i == 500 ? 0.5 : 0.001);
    often.Add(i % 50 == 0 ? 0.5 : 0.001);
  }
  EXPECT_FALSE(JudgeGenerator(0.5, 10, 1000, once, {}).bottleneck);
  EXPECT_TRUE(JudgeGenerator(0.5, 10, 1000, often, {}).bottleneck);
  EXPECT_GT(JudgeGenerator(0.5, 10, 1000, often, {}).late_p99, 0.4);
  EXPECT_EQ(idle.wait_us, -1) << "not known";
  // Of closed loops too: by its waits for a processor what came is read late.
  const auto waiting = [&](double of_all) {
    return JudgeGenerator(0.5, 10, 1000, closed_loop, {of_all, 1000, 0.02, 0.1});
  };
  EXPECT_DOUBLE_EQ(waiting(3).wait_us, 3000);
  EXPECT_DOUBLE_EQ(waiting(3).wait_of_piece, 0.15);
  EXPECT_DOUBLE_EQ(waiting(3).wait_of_request, 0.03);
  EXPECT_FALSE(waiting(1.9).blurs_latencies);
  EXPECT_TRUE(waiting(2.1).blurs_latencies);
  EXPECT_FALSE(waiting(49).bottleneck) << "what it sends is the server's to answer";
  EXPECT_TRUE(waiting(51).bottleneck) << "half of every request is its own wait";
  EXPECT_FALSE(JudgeGenerator(0.5, 10, 9, closed_loop, {4, 1000, 0, 0.005}).bottleneck)
      << "which it had time for besides";
  // Without streams there are requests alone.
  EXPECT_TRUE(JudgeGenerator(0.5, 10, 9, closed_loop, {2, 1000, 0, 0.01}).blurs_latencies);
  EXPECT_EQ(JudgeGenerator(0.5, 10, 9, closed_loop, {2, 1000, 0, 0.01}).wait_of_piece, -1);
  // Nothing came at all.
  EXPECT_FALSE(JudgeGenerator(0, 0, 0, closed_loop, {}).bottleneck);
}

TEST(RunLoad, CountsItsOwnWaitsForAProcessor) {
  int64_t computed = 0;
  if (!(std::ifstream("/proc/thread-self/schedstat") >> computed) || computed == 0)
    GTEST_SKIP() << "this kernel does not count them";
  // Its thread shares one processor with one that always computes.
  cpu_set_t allowed, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &one);
  }
  const ScriptedServer server;
  std::thread serving([&] {
    const int client = server.Accept();
    while (ScriptedServer::ReadRequest(client)) ScriptedServer::Say(client, Answer(kGood));
    close(client);
  });
  std::atomic<bool> done = false;
  std::thread computing([&] {
    sched_setaffinity(0, sizeof one, &one);
    while (!done) {
    }
  });
  absl::StatusOr<LoadResult> result = LoadResult();
  std::thread([&] {
    sched_setaffinity(0, sizeof one, &one);
    Target target;
    target.port = static_cast<uint16_t>(server.port());
    result = RunLoad(Requests(100), target);
  }).join();
  done = true;
  computing.join();
  serving.join();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 100);
  EXPECT_GT(result->generator.wait_us, 0);
  EXPECT_GT(result->generator.wait_of_request, 0);
  EXPECT_EQ(result->generator.wait_of_piece, -1);
}

}  // namespace
}  // namespace penstock
