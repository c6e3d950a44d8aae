// Whose turn it is among tenants.
#include "engine/fair_clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

namespace penstock {
namespace {

struct Waiting {
  uint64_t turn;
  int arrival;
  std::string tenant;
  bool operator<(const Waiting& other) const {
    return std::tie(turn, arrival) < std::tie(other.turn, other.arrival);
  }
};

TEST(FairClock, AFloodWaitsForItselfAlone) {
  FairClock clock;
  std::vector<Waiting> queue;
  int arrival = 0;
  for (int i = 0; i < 100; ++i) queue.push_back({clock.Arrive("flood", 100), arrival++, "flood"});
  for (int i = 0; i < 5; ++i) queue.push_back({clock.Arrive("other", 100), arrival++, "other"});
  std::sort(queue.begin(), queue.end());
  int others = 0;
  for (int i = 0; i < 10; ++i) others += queue[i].tenant == "other";
  EXPECT_EQ(others, 5);  // in turns
}

TEST(FairClock, LargeRequestsCountForWhatTheyAre) {
  FairClock clock;
  std::vector<Waiting> queue;
  int arrival = 0;
  for (int i = 0; i < 40; ++i) {
    queue.push_back({clock.Arrive("large", 300), arrival++, "large"});
    queue.push_back({clock.Arrive("small", 100), arrival++, "small"});
  }
  std::sort(queue.begin(), queue.end());
  int small = 0;
  for (int i = 0; i < 40; ++i) small += queue[i].tenant == "small";
  EXPECT_NEAR(small, 30, 1);
}

TEST(FairClock, WhoWasIdleGetsNoCreditAndOwesNothing) {
  FairClock clock;
  uint64_t turn = 0;
  for (int i = 0; i < 50; ++i) {
    turn = clock.Arrive("busy", 100);
    clock.Begin(turn);
  }
  EXPECT_EQ(clock.Arrive("new", 100), turn);  // now, and not 50 requests ago
}

TEST(FairClock, WhatWasNotTakenIsGivenBack) {
  FairClock clock;
  clock.Arrive("a", 1000);
  clock.Arrive("b", 1000);
  clock.End("a", 1000, 10);
  const uint64_t a = clock.Arrive("a", 1000), b = clock.Arrive("b", 1000);
  EXPECT_EQ(a, 10u);
  EXPECT_EQ(b, 1000u);
}

TEST(FairClock, OneTenantIsServedInItsOrder) {
  FairClock clock;
  uint64_t last = 0;
  for (int i = 0; i < 50; ++i) {
    const uint64_t turn = clock.Arrive("a", 1000);
    EXPECT_GE(turn, last);
    last = turn;
    clock.End("a", 1000, 0);
    clock.Arrive("a", 5);
  }
}

TEST(FairClock, ForgetsTenantsThatAreGone) {
  FairClock clock;
  for (int i = 0; i < 5000; ++i) {
    const std::string name = "tenant " + std::to_string(i);
    clock.Begin(clock.Arrive(name, 10));
    clock.Arrive("stays", 1);
    clock.End(name, 10, 10);
  }
  EXPECT_LT(clock.num_accounts(), 1100u);
}

}  // namespace
}  // namespace penstock
