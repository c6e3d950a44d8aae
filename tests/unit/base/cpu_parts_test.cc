#include "base/cpu_parts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "absl/time/clock.h"
#include "base/thread_cpu.h"

namespace penstock {
namespace {

double Of(const CpuParts& parts, FrontPart part) { return parts.Sums()[static_cast<size_t>(part)]; }

void Burn(absl::Duration time) {
  const absl::Duration end = ThreadCpuTime() + time;
  while (ThreadCpuTime() < end) {
  }
}

// Burns half a millisecond, two in json, a half again; whether nothing else ran on the core meanwhile.
bool Undisturbed(const CpuParts& parts) {
  const absl::Time begin = absl::Now();
  const CpuPart request(FrontPart::kRequests);
  Burn(absl::Microseconds(500));
  {
    const CpuPart json(FrontPart::kJson);
    Burn(absl::Milliseconds(2));
  }
  Burn(absl::Microseconds(500));
  EXPECT_GT(Of(parts, FrontPart::kJson), 0);  // while the scope and the thread live
  return absl::Now() - begin < absl::Microseconds(3200);
}

TEST(CpuParts, GiveEachPartTheTimeThatItsScopesTook) {
  bool undisturbed = false;
  for (int round = 0; round < 1000 && !undisturbed; ++round) {
    CpuParts parts;
    std::thread([&] {
      const CpuParts::Thread counted(&parts, FrontPart::kAnswers);
      Burn(absl::Milliseconds(1));
      undisturbed = Undisturbed(parts);
    }).join();
    // The thread's own clock: neighbours on the machine add nothing to the sums.
    const double in_scopes = Of(parts, FrontPart::kRequests) + Of(parts, FrontPart::kJson);
    EXPECT_GE(Of(parts, FrontPart::kAnswers), 0.0009);
    EXPECT_GE(in_scopes, 0.003);
    EXPECT_EQ(Of(parts, FrontPart::kLimits), 0);
    if (!undisturbed) continue;
    EXPECT_NEAR(Of(parts, FrontPart::kJson), 0.002, 0.0004);
    EXPECT_NEAR(Of(parts, FrontPart::kRequests), 0.001, 0.0004);
  }
  if (!undisturbed) GTEST_SKIP() << "this machine never left the thread alone for three ms";
}

TEST(CpuParts, CountNothingForAPartThatSleeps) {
  CpuParts parts;
  std::thread([&] {
    const CpuParts::Thread counted(&parts, FrontPart::kAnswers);
    const CpuPart request(FrontPart::kRequests);
    Burn(absl::Milliseconds(20));
    const CpuPart chain(FrontPart::kChain);
    absl::SleepFor(absl::Milliseconds(40));
  }).join();
  EXPECT_GE(Of(parts, FrontPart::kRequests), 0.020);
  EXPECT_LT(Of(parts, FrontPart::kChain), 0.010);
}

TEST(CpuParts, KnowWhatAThreadHasSpentSinceItsLastScope) {
  CpuParts parts;
  std::mutex mutex;
  std::condition_variable changed;
  int stage = 0;
  const auto reach = [&](int next) {
    std::unique_lock lock(mutex);
    stage = next;
    changed.notify_all();
  };
  const auto wait = [&](int wanted) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stage >= wanted; });
  };
  std::thread thread([&] {
    const CpuParts::Thread counted(&parts, FrontPart::kHttp);
    Burn(absl::Milliseconds(20));
    reach(1);
    wait(2);
  });
  wait(1);
  const double before = Of(parts, FrontPart::kHttp);
  EXPECT_GE(before, 0.019);
  EXPECT_GE(Of(parts, FrontPart::kHttp), before);
  reach(2);
  thread.join();
}

TEST(CpuParts, StayRightWhereTheyAreAskedWhileScopesBeginAndEnd) {
  CpuParts parts;
  std::atomic<bool> done = false;
  std::thread busy([&] {
    const CpuParts::Thread counted(&parts, FrontPart::kAnswers);
    const absl::Duration end = ThreadCpuTime() + absl::Milliseconds(60);
    while (ThreadCpuTime() < end) {
      const CpuPart request(FrontPart::kRequests);
      const CpuPart json(FrontPart::kJson);
    }
    const absl::Duration base = ThreadCpuTime() + absl::Milliseconds(20);
    while (ThreadCpuTime() < base) {
    }
    done = true;
  });
  while (!done) parts.Sums();
  busy.join();
  // Were an asker to leave a part behind that the thread had left, this would be that part's.
  EXPECT_GE(Of(parts, FrontPart::kAnswers), 0.019);
}

TEST(CpuParts, LeaveThreadsAloneThatDoNotCount) {
  CpuParts parts;
  {
    const CpuParts::Thread nobody(nullptr, FrontPart::kHttp);
    const CpuPart json(FrontPart::kJson);
    Burn(absl::Milliseconds(2));
  }
  for (double seconds : parts.Sums()) EXPECT_EQ(seconds, 0);
}

}  // namespace
}  // namespace penstock
