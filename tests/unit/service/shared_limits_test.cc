// Limits of several servers, against a real Redis where there is one, and against sockets that are none.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "fakes/temp_dir.h"
#include "ledger/usage_book.h"
#include "service/call_error.h"
#include "service/redis_connection.h"
#include "service/shared_limits_loop.h"
#include "service/tenant_limits.h"

namespace penstock {
namespace {

/// Below those that systems give to whoever asks for any: Redis that is back finds it free.
int FreePort() {
  std::random_device random;
  std::uniform_int_distribution<int> any(12000, 31999);
  while (true) {
    const int port = any(random);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    const bool free = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    if (free) return port;
  }
}

bool WaitFor(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class SharedLimitsTest : public testing::Test {
 protected:
  ~SharedLimitsTest() override { StopRedis(); }

  bool StartRedis() {
    const std::string port = std::to_string(port_);
    const char* words[] = {"redis-server",      "--port",     port.c_str(), "--bind",
                           "127.0.0.1",         "--save",     "",           "--dir",
                           dir_.path().c_str(), "--loglevel", "warning",    nullptr};
    return posix_spawnp(&redis_, "redis-server", nullptr, nullptr, const_cast<char**>(words),
                        environ) == 0;
  }
  void StopRedis() {
    if (redis_ <= 0) return;
    kill(redis_, SIGKILL);
    waitpid(std::exchange(redis_, 0), nullptr, 0);
  }
  std::shared_ptr<SharedLimitsLoop> Loop() {
    SharedLimitsLoop::Options options;
    options.host = "127.0.0.1";
    options.port = port_;
    options.usage = UsageBook::InMemory();
    options.log = [](bool, std::string_view) {};
    return std::make_shared<SharedLimitsLoop>(std::move(options));
  }
  /// Asked again where a slow machine was too slow for Redis.
  static SharedDecision Ask(SharedLimitsLoop& loop, const SharedRules& rules, int64_t tokens) {
    while (true) {
      SharedDecision decision = loop.Reserve("t", rules, tokens);
      if (decision.outcome != SharedDecision::kOutage) return decision;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  /// Does it in Redis; what the script answers is {`expected`, a text}.
  void Eval(const char* script, const std::string& key, int64_t expected) {
    auto redis = RedisConnection::Open("127.0.0.1", port_, "", absl::Seconds(10));
    ASSERT_TRUE(redis.ok()) << redis.status();
    ASSERT_TRUE((*redis)->Append({"EVAL", script, "1", key}).ok());
    const auto reply = (*redis)->Read(1, SystemClock::Get().Now() + absl::Seconds(10));
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->numbers[0], expected);
  }

  TempDir dir_;
  const int port_ = FreePort();
  pid_t redis_ = 0;
};

TEST_F(SharedLimitsTest, ThreadsOfThreeServersTakeABudgetAndNoMore) {
  if (!StartRedis()) GTEST_SKIP() << "no redis-server";
  std::vector<std::shared_ptr<SharedLimitsLoop>> loops = {Loop(), Loop(), Loop()};
  for (const auto& loop : loops) ASSERT_TRUE(WaitFor([&] { return loop->up(); }));
  const SharedRules rules{.budget = 1000, .budget_per = absl::Hours(100000)};
  std::atomic<int64_t> used{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        SharedLimitsLoop& loop = *loops[(t + i) % loops.size()];
        const SharedDecision decision = Ask(loop, rules, 20);
        if (decision.outcome != SharedDecision::kAdmitted) continue;
        used += 7;
        loop.Settle("t", decision, 20, 7, true);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(used, 1000);
  EXPECT_GT(used,
            1000 - 6 * 20);  // what the last ones had reserved is given back too late for anyone
}

TEST_F(SharedLimitsTest, ABudgetOfAnotherPeriodBeginsAnewForAllServers) {
  if (!StartRedis()) GTEST_SKIP() << "no redis-server";
  std::vector<std::shared_ptr<SharedLimitsLoop>> loops = {Loop(), Loop()};
  for (const auto& loop : loops) ASSERT_TRUE(WaitFor([&] { return loop->up(); }));
  SharedRules rules{.budget = 100, .budget_per = absl::Hours(100000)};
  const auto take_all = [&] {
    int64_t admitted = 0;
    for (int i = 0; i < 12; ++i) {
      SharedLimitsLoop& loop = *loops[i % loops.size()];
      const SharedDecision decision = Ask(loop, rules, 20);
      if (decision.outcome != SharedDecision::kAdmitted) continue;
      admitted += 20;
      loop.Settle("t", decision, 20, 20, true);
    }
    return admitted;
  };
  EXPECT_EQ(take_all(), 100);
  EXPECT_EQ(take_all(), 0);
  rules.budget_per = absl::Hours(50000);
  EXPECT_EQ(take_all(), 100);
  EXPECT_EQ(take_all(), 0);
  // While one server has the new period and the other not yet, neither gives more than there is.
  int64_t admitted = 0;
  for (int i = 0; i < 24; ++i) {
    SharedRules own = rules;
    if (i % 2 == 1) own.budget_per = absl::Hours(30000);
    const SharedDecision decision = Ask(*loops[i % 2], own, 20);
    if (decision.outcome != SharedDecision::kAdmitted) continue;
    admitted += 20;
    loops[i % 2]->Settle("t", decision, 20, 20, true);
  }
  EXPECT_LE(admitted, 200);
}

/// As after its time of day was set back and it was started again.
TEST_F(SharedLimitsTest, AServerWhoseNumbersLieBehindGoesOnFromTheHighest) {
  if (!StartRedis()) GTEST_SKIP() << "no redis-server";
  const auto loop = Loop();
  ASSERT_TRUE(WaitFor([&] { return loop->up(); }));
  const SharedRules rules{.tpm = 100, .parallel = 2};
  const SharedDecision held = Ask(*loop, rules, 60);
  ASSERT_EQ(held.outcome, SharedDecision::kAdmitted);
  const char ahead[] = R"lua(
local ahead = 0
for _, field in ipairs(redis.call("HKEYS", KEYS[1])) do
  if string.sub(field, 1, 7) == "number:" then
    redis.call("HINCRBY", KEYS[1], field, "3600000000")
    ahead = ahead + 1
  end
end
return {ahead, "done"})lua";
  Eval(ahead, "penstock:t:budget", 1);
  EXPECT_TRUE(
      WaitFor([&] { return loop->Reserve("t", rules, 1).outcome == SharedDecision::kAdmitted; }));
  Eval(ahead, "penstock:t:budget", 1);
  loop->Settle("t", held, 60, 0, /*ran=*/false);
  EXPECT_TRUE(
      WaitFor([&] { return loop->Reserve("t", rules, 90).outcome == SharedDecision::kAdmitted; }));
}

TEST_F(SharedLimitsTest, AnOutageIsNoticedAndEndsByItself) {
  if (!StartRedis()) GTEST_SKIP() << "no redis-server";
  const auto loop = Loop();
  ASSERT_TRUE(WaitFor([&] { return loop->up(); }));
  const SharedRules rules{.rpm = 100};
  EXPECT_EQ(Ask(*loop, rules, 1).outcome, SharedDecision::kAdmitted);
  const int64_t before = loop->outage();
  StopRedis();
  EXPECT_TRUE(
      WaitFor([&] { return loop->Reserve("t", rules, 1).outcome == SharedDecision::kOutage; }));
  EXPECT_TRUE(WaitFor([&] { return !loop->up(); }));
  EXPECT_GT(loop->outage(), before);
  ASSERT_TRUE(loop->LastKnown("t").has_value());
  EXPECT_LE(loop->LastKnown("t")->requests_left, 99);
  EXPECT_GT(loop->LastKnown("t")->requests_left, 50);
  ASSERT_TRUE(StartRedis());
  EXPECT_TRUE(WaitFor([&] { return loop->up(); }));
  // Emptied under a server that knew it: buckets begin empty.
  EXPECT_EQ(Ask(*loop, {.rpm = 1}, 1).outcome, SharedDecision::kRefused);
}

TEST_F(SharedLimitsTest, WithoutRedisEachGivesItsPartOrNothing) {
  const auto loop = Loop();  // nobody listens there
  const auto limits = std::make_shared<TenantLimits>(&SystemClock::Get(), loop);
  TenantEntry rules;
  rules.rpm.value = 30;
  SharedLimitsSection together;
  together.replicas = 3;
  std::vector<std::unique_ptr<TenantLimits::Reservation>> held;
  absl::Status refused;
  while (refused.ok()) {
    auto reserved = limits->Reserve("t", rules, 1, together);
    refused = reserved.status();
    if (reserved.ok()) held.push_back(*std::move(reserved));
    ASSERT_LE(held.size(), 100);
  }
  EXPECT_GE(held.size(), 10);
  EXPECT_LE(held.size(), 12);  // a slow machine's time flows in
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(LimitsOf(refused).requests.limit, 10);
  EXPECT_EQ(LimitsOf(refused).requests.remaining, 0);
  together.on_outage = "block";
  refused = limits->Reserve("t", rules, 1, together).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(RetryAfterOf(refused).has_value());
  EXPECT_TRUE(limits->Reserve("u", TenantEntry(), 1, together).ok());  // without limits: as ever
}

}  // namespace
}  // namespace penstock
