#include "base/cpu_parts.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <thread>

#include "base/thread_cpu.h"

namespace penstock {
namespace {

double Of(const CpuParts& parts, FrontPart part) { return parts.Sums()[static_cast<size_t>(part)]; }

void Burn(absl::Duration time) {
  const absl::Duration end = ThreadCpuTime() + time;
  while (ThreadCpuTime() < end) {
  }
}

TEST(CpuParts, GiveEachPartTheTimeThatItsScopesTook) {
  CpuParts parts;
  std::thread([&] {
    const CpuParts::Thread counted(&parts, FrontPart::kAnswers);
    Burn(absl::Milliseconds(20));
    {
      const CpuPart request(FrontPart::kRequests);
      Burn(absl::Milliseconds(10));
      {
        const CpuPart json(FrontPart::kJson);
        Burn(absl::Milliseconds(40));
      }
      Burn(absl::Milliseconds(10));
    }
    EXPECT_GE(Of(parts, FrontPart::kJson), 0.040);  // while the thread lives
  }).join();
  EXPECT_GE(Of(parts, FrontPart::kAnswers), 0.019);
  EXPECT_GE(Of(parts, FrontPart::kRequests), 0.020);
  EXPECT_GE(Of(parts, FrontPart::kJson), 0.040);
  // The thread's own clock: neighbours on the machine add nothing.
  EXPECT_LT(Of(parts, FrontPart::kJson), 0.060);
  EXPECT_EQ(Of(parts, FrontPart::kLimits), 0);
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
