#include "service/predicted_wait.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

EngineLoad Load(std::vector<WaitingLoad> waiting) {
  EngineLoad load;
  for (const WaitingLoad& level : waiting) load.num_waiting += level.num_requests;
  load.waiting = std::move(waiting);
  load.requests_per_second = 2;
  load.tokens_per_second = 100;
  return load;
}

TEST(PredictedWait, IsThatOfAllBeforeIt) {
  const EngineLoad load = Load({{-1, 10, 100, "a"}, {0, 20, 3000, "a"}, {1, 70, 90000, "a"}});
  EXPECT_EQ(PredictedWait(load, -1, "a"), absl::Seconds(5));
  EXPECT_EQ(PredictedWait(load, 0, "a"), absl::Seconds(31));  // by tokens
  EXPECT_EQ(PredictedWait(load, -2, "a"), absl::ZeroDuration());
  EXPECT_EQ(PredictedWait(Load({}), 0, "a"), absl::ZeroDuration());
}

TEST(PredictedWait, KnowsTheTurnsOfTenants) {
  const EngineLoad load = Load({{0, 200, 2000, "flood"}, {0, 3, 30, "some"}});
  EXPECT_EQ(PredictedWait(load, 0, "flood"), absl::Seconds(101.5));
  EXPECT_EQ(PredictedWait(load, 0, "some"), absl::Seconds(3.5));  // its 3, and 4 of the other's
  EXPECT_EQ(PredictedWait(load, 0, "new"), absl::Seconds(1));     // one of each
  EXPECT_EQ(PredictedWait(load, 0, ""), absl::Seconds(101.5));
  // Those of a priority before it go before it, whosever they are.
  EXPECT_EQ(PredictedWait(Load({{-1, 200, 2000, "flood"}}), 0, "new"), absl::Seconds(100));
}

TEST(PredictedWait, CountsTurnsInTokensToo) {
  const EngineLoad load = Load({{0, 2, 40, "own"}, {0, 10, 10000, "long"}});
  EXPECT_EQ(PredictedWait(load, 0, "own"), absl::Seconds(10.8));  // 40, and 1,040 of the other's
}

TEST(PredictedWait, HasNoTurnsWhereTheQueueHasNone) {
  EXPECT_EQ(PredictedWait(Load({{0, 200, 2000, ""}}), 0, "a"), absl::Seconds(100));
}

TEST(PredictedWait, CountsThoseOnTheirWayToTheQueue) {
  EngineLoad load = Load({});
  load.num_waiting = 4;
  EXPECT_EQ(PredictedWait(load, 0, "a"), absl::Seconds(2));
}

}  // namespace
}  // namespace penstock
