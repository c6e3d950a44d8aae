// How fast a queue empties, as the engine learns it.
#include "engine/admission_rate.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(AdmissionRate, IsOfTheTimeInWhichSomeWaited) {
  AdmissionRate rate;
  absl::Time now = absl::FromUnixSeconds(1000);
  rate.Observe(now, 100, 1000, false);  // before anybody waited
  EXPECT_EQ(rate.requests(), 0);
  now += absl::Seconds(100);
  rate.Observe(now, 101, 1010, true);
  EXPECT_EQ(rate.requests(), 0);
  for (int i = 1; i <= 20; ++i) {
    now += absl::Milliseconds(100);
    rate.Observe(now, 101 + 2 * i, 1010 + 60 * i, true);
  }
  EXPECT_NEAR(rate.requests(), 20, 1e-6);
  EXPECT_NEAR(rate.tokens(), 600, 1e-6);
}

TEST(AdmissionRate, ForgetsWhatIsLongAgo) {
  AdmissionRate rate;
  absl::Time now = absl::FromUnixSeconds(1000);
  int64_t begun = 0;
  rate.Observe(now, begun, 0, true);
  for (int i = 0; i < 100; ++i) rate.Observe(now += absl::Seconds(1), begun += 10, 0, true);
  for (int i = 0; i < 60; ++i) rate.Observe(now += absl::Seconds(1), begun += 1, 0, true);
  EXPECT_NEAR(rate.requests(), 1, 0.1);
}

}  // namespace
}  // namespace penstock
