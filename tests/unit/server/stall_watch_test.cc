// When an engine with work counts as standing still.
#include "server/stall_watch.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

const absl::Time kBegin = absl::FromUnixSeconds(1000);

EngineLoad Busy(absl::Time last_step, int running = 1, int waiting = 0) {
  EngineLoad load;
  load.num_running = running;
  load.num_waiting = waiting;
  load.last_step = last_step;
  return load;
}

TEST(StallWatch, AnIdleEngineNeverStalls) {
  StallWatch watch;
  for (int i = 0; i < 1000; i += 100) {
    EXPECT_EQ(watch.Observe("a", Busy(absl::UnixEpoch(), 0), kBegin + absl::Seconds(i)),
              absl::ZeroDuration());
  }
  // Its last step is long ago when work comes.
  EXPECT_EQ(watch.Observe("a", Busy(absl::UnixEpoch()), kBegin + absl::Seconds(901)),
            absl::Seconds(1));
}

TEST(StallWatch, StepsCountAndTheirAbsenceIsMeasured) {
  StallWatch watch;
  EXPECT_EQ(watch.Observe("a", Busy(absl::UnixEpoch()), kBegin), absl::ZeroDuration());
  EXPECT_EQ(watch.Observe("a", Busy(kBegin + absl::Seconds(5)), kBegin + absl::Seconds(6)),
            absl::Seconds(1));
  EXPECT_EQ(watch.Observe("a", Busy(kBegin + absl::Seconds(5)), kBegin + absl::Seconds(35)),
            absl::Seconds(30));
  EXPECT_EQ(watch.Observe("a", Busy(kBegin + absl::Seconds(5), 0, 3), kBegin + absl::Seconds(36)),
            absl::Seconds(31));  // what only waits is work as well
  EXPECT_EQ(watch.Observe("b", Busy(absl::UnixEpoch()), kBegin + absl::Seconds(36)),
            absl::ZeroDuration());  // another engine
}

}  // namespace
}  // namespace penstock
