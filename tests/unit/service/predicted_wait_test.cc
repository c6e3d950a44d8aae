#include "service/predicted_wait.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "fakes/fake_engine.h"

namespace penstock {
namespace {

EngineLoad LoadOf(std::vector<WaitingLoad> waiting) {
  EngineLoad load;
  for (const WaitingLoad& level : waiting) load.num_waiting += level.num_requests;
  load.waiting = Waiting(std::move(waiting));
  load.has_turns = true;
  load.requests_per_second = 2;
  load.tokens_per_second = 100;
  return load;
}

TEST(PredictedWait, IsThatOfAllBeforeIt) {
  const EngineLoad load =
      LoadOf({{-1, 10, 100, "a", 100}, {0, 20, 3000, "a", 4000}, {1, 70, 90000, "a", 90000}});
  EXPECT_EQ(PredictedWait(load, -1, "a"), absl::Seconds(5));
  EXPECT_EQ(PredictedWait(load, 0, "a"), absl::Seconds(31));  // by tokens
  EXPECT_EQ(PredictedWait(load, -2, "a"), absl::ZeroDuration());
  EXPECT_EQ(PredictedWait(LoadOf({}), 0, "a"), absl::ZeroDuration());
}

TEST(PredictedWait, KnowsTheTurnsOfTenants) {
  const EngineLoad load = LoadOf({{0, 200, 2000, "flood", 4000}, {0, 3, 30, "some", 60}});
  EXPECT_EQ(PredictedWait(load, 0, "flood"), absl::Seconds(101.5));
  EXPECT_EQ(PredictedWait(load, 0, "some"), absl::Seconds(3.5));  // its 3, and 4 of the other's
  EXPECT_EQ(PredictedWait(load, 0, "new"), absl::Seconds(1));     // one of each
  EXPECT_EQ(PredictedWait(load, 0, ""), absl::Seconds(101.5));
  // Those of a priority before it go before it, whosever they are.
  EXPECT_EQ(PredictedWait(LoadOf({{-1, 200, 2000, "flood", 4000}}), 0, "new"), absl::Seconds(100));
}

TEST(PredictedWait, CountsTurnsByWhatRequestsMayTake) {
  // For one that may take 4,160 tokens go 160 that may take 26.
  const EngineLoad load = LoadOf({{0, 1, 64, "own", 4160}, {0, 200, 2000, "small", 5200}});
  EXPECT_EQ(PredictedWait(load, 0, "own"), absl::Seconds(81));
  const EngineLoad prompts = LoadOf({{0, 2, 40, "own", 2000}, {0, 10, 10000, "long", 10000}});
  EXPECT_EQ(PredictedWait(prompts, 0, "own"), absl::Seconds(30.4));  // 40, and three of 1,000
}

TEST(PredictedWait, HasNeitherTurnsNorPrioritiesWhereTheQueueHasNone) {
  EngineLoad load = LoadOf({{0, 200, 2000, "flood", 4000}});
  load.has_turns = false;
  EXPECT_EQ(PredictedWait(load, 0, "a"), absl::Seconds(100));
  EXPECT_EQ(PredictedWait(load, -1, "a"), absl::Seconds(100));
}

TEST(PredictedWait, CountsThoseOnTheirWayToTheQueue) {
  EngineLoad load = LoadOf({});
  load.num_waiting = 4;
  EXPECT_EQ(PredictedWait(load, 0, ""), absl::Seconds(2));
  EXPECT_EQ(PredictedWait(load, 0, "a"), absl::Seconds(0.5));  // of whom is not known
}

}  // namespace
}  // namespace penstock
