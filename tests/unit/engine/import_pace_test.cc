#include "engine/import_pace.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr double kPosition = 0.001;  // seconds

TEST(ImportPace, CountsCopiesAsComputingWhileNothingIsKnown) {
  ImportPace pace;
  EXPECT_TRUE(pace.Pays(1000, 16, kPosition));
  EXPECT_EQ(pace.Cost(1000, 16, kPosition), 16);
  pace.Observe(1000, 0.004);
  EXPECT_EQ(pace.Cost(1000, 16, 0), 16);  // of steps nothing is known
  EXPECT_DOUBLE_EQ(pace.Cost(1000, 16, kPosition), 4);
  EXPECT_DOUBLE_EQ(pace.Cost(500, 16, kPosition), 2);
}

TEST(ImportPace, RefusesWhatIsComputedSoonerAndTriesItAgainAtTimes) {
  ImportPace pace;
  pace.Observe(1000, 0.017);
  EXPECT_TRUE(pace.Pays(900, 16, kPosition));
  EXPECT_FALSE(pace.Pays(1000, 16, kPosition));
  int refused = 1;
  while (!pace.Pays(1000, 16, kPosition)) ++refused;
  EXPECT_GT(refused, 10);
  EXPECT_LT(refused, 1000);
  EXPECT_FALSE(pace.Pays(1000, 16, kPosition));
  for (int i = 0; i < 30; ++i) pace.Observe(1000, 0.001);
  EXPECT_TRUE(pace.Pays(1000, 16, kPosition));
}

TEST(ImportPace, OneSlowCopyAmongManyIsNoVerdict) {
  ImportPace pace;
  for (int i = 0; i < 8; ++i) pace.Observe(1000, 0.001);
  pace.Observe(1000, 10);
  EXPECT_TRUE(pace.Pays(1000, 16, kPosition));
  pace.Observe(0, 1);  // of a step without copies
  EXPECT_TRUE(pace.Pays(1000, 16, kPosition));
}

}  // namespace
}  // namespace penstock
