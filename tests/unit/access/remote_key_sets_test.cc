// Key sets behind URLs: when they are fetched, and how long they count.
#include "access/remote_key_sets.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr char kUrl[] = "https://idp/jwks";
// The key of RFC 8037, appendix A.2.
constexpr char kSet[] =
    R"({"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})";

class RemoteKeySetsTest : public ::testing::Test {
 protected:
  /// Passes in steps as the loop's thread would look.
  void Pass(absl::Duration time) {
    for (absl::Duration step = absl::Seconds(1); time > absl::ZeroDuration(); time -= step) {
      clock_.Advance(step);
      sets_.Check();
    }
  }

  FakeClock clock_;
  int calls_ = 0;
  absl::StatusOr<std::string> answer_ = kSet;
  std::vector<std::string> complaints_;
  RemoteKeySets sets_{{kUrl},
                      [this](const std::string&) {
                        ++calls_;
                        return answer_;
                      },
                      &clock_,
                      [this](bool failed, std::string_view line) {
                        if (failed) complaints_.emplace_back(line);
                      }};
};

TEST_F(RemoteKeySetsTest, AreFetchedAtOnceAndEveryFiveMinutes) {
  EXPECT_FALSE(sets_.TextOf(kUrl).has_value());
  sets_.Check();
  EXPECT_EQ(sets_.TextOf(kUrl), kSet);
  EXPECT_EQ(calls_, 1);
  const uint64_t version = sets_.version();
  Pass(absl::Seconds(299));
  EXPECT_EQ(calls_, 1);
  Pass(absl::Seconds(302));
  EXPECT_EQ(calls_, 3);
  EXPECT_EQ(sets_.version(), version);  // the same text
}

TEST_F(RemoteKeySetsTest, AnUnknownKeyIsLookedForSoonButNotOften) {
  sets_.Check();
  EXPECT_FALSE(sets_.Want(kUrl));  // they were fetched this second
  clock_.Advance(absl::Seconds(6));
  EXPECT_TRUE(sets_.Want(kUrl));
  sets_.Check();
  EXPECT_EQ(calls_, 2);
  for (int i = 0; i < 1000; ++i) {
    sets_.Want(kUrl);
    clock_.Advance(absl::Milliseconds(10));
    sets_.Check();
  }
  EXPECT_LE(calls_, 2 + 2);  // of ten seconds
  EXPECT_FALSE(sets_.Want("https://other"));
}

TEST_F(RemoteKeySetsTest, WhatWasFetchedLastCountsForADay) {
  sets_.Check();
  answer_ = absl::UnavailableError("down");
  Pass(absl::Hours(23));
  EXPECT_EQ(sets_.TextOf(kUrl), kSet);
  EXPECT_EQ(complaints_.size(), 1);
  answer_ = "{\"keys\":[]}";  // a lie is no better
  Pass(absl::Hours(2));
  EXPECT_FALSE(sets_.TextOf(kUrl).has_value());
  answer_ = kSet;
  Pass(absl::Seconds(20));
  EXPECT_EQ(sets_.TextOf(kUrl), kSet);
}

}  // namespace
}  // namespace penstock
