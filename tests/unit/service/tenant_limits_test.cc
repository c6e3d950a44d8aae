// Tenants' limits: reserved before, settled after, exact among threads.
#include "service/tenant_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

class TenantLimitsTest : public testing::Test {
 protected:
  TenantLimits::Reserved Reserve(int64_t tokens, const std::string& tenant = "a") {
    return limits_->Reserve(tenant, rules_, tokens);
  }
  std::string Refusal(int64_t tokens) {
    const auto reserved = Reserve(tokens);
    EXPECT_EQ(reserved.status().code(), absl::StatusCode::kResourceExhausted);
    return std::string(reserved.status().message());
  }
  void Take(int64_t reserve, int64_t use) {
    auto reserved = Reserve(reserve);
    ASSERT_TRUE(reserved.ok()) << reserved.status();
    (*reserved)->Settle(use);
  }

  FakeClock clock_;
  std::shared_ptr<TenantLimits> limits_ = std::make_shared<TenantLimits>(&clock_);
  TenantEntry rules_;
};

TEST_F(TenantLimitsTest, RequestsFlowInWithTime) {
  rules_.rpm = {2};
  Take(1, 1);
  Take(1, 1);
  const auto refused = Reserve(1);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("tenant a: rpm of 2 is used up"));
  EXPECT_EQ(RetryAfterOf(refused.status()), 30);
  clock_.Advance(absl::Seconds(29));
  EXPECT_FALSE(Reserve(1).ok());
  EXPECT_TRUE(Reserve(1, "b").ok());  // another tenant
  clock_.Advance(absl::Seconds(1));
  Take(1, 1);
  EXPECT_FALSE(Reserve(1).ok());
}

TEST_F(TenantLimitsTest, TokensAreReservedAndTheRestIsGivenBack) {
  rules_.tpm = {100};
  auto first = Reserve(80);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ((*first)->state().tokens.remaining, 20);
  EXPECT_EQ((*first)->state().tokens.limit, 100);
  EXPECT_EQ((*first)->state().tokens.reset, absl::Seconds(48));
  EXPECT_EQ((*first)->state().requests.limit, 0);
  EXPECT_THAT(Refusal(30), HasSubstr("tpm of 100"));
  (*first)->Settle(10);
  Take(90, 90);
  EXPECT_FALSE(Reserve(1).ok());
  EXPECT_EQ(Reserve(101).status().code(), absl::StatusCode::kInvalidArgument);  // never
}

TEST_F(TenantLimitsTest, WhatIsTakenBeyondAReservationIsOwed) {
  rules_.tpm = {60};
  Take(60, 120);
  clock_.Advance(absl::Seconds(60));
  EXPECT_FALSE(Reserve(1).ok());
  clock_.Advance(absl::Seconds(2));
  EXPECT_TRUE(Reserve(1).ok());
}

TEST_F(TenantLimitsTest, ACallThatNeverRanCostsNothing) {
  rules_.rpm = {1};
  rules_.tpm = {10};
  rules_.parallel = 1;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Reserve(10).ok());  // each is destroyed at once
  const auto held = Reserve(10);
  EXPECT_TRUE(held.ok());
  EXPECT_FALSE(Reserve(1).ok());
}

TEST_F(TenantLimitsTest, ParallelCallsAreCounted) {
  rules_.parallel = 2;
  auto first = Reserve(1), second = Reserve(1);
  EXPECT_THAT(Refusal(1), HasSubstr("parallel of 2"));
  (*first)->Settle(1);
  EXPECT_TRUE(Reserve(1).ok());
}

TEST_F(TenantLimitsTest, ABudgetEndsAndBeginsAnew) {
  rules_.budget_tokens = {100};
  rules_.budget_per = absl::Hours(1);
  Take(60, 60);
  EXPECT_THAT(Refusal(60), HasSubstr("budget.tokens of 100"));
  EXPECT_EQ(RetryAfterOf(Reserve(60).status()), 3600);
  rules_.budget_tokens = {200};  // a reload
  Take(60, 60);
  rules_.budget_tokens = {100};
  EXPECT_FALSE(Reserve(1).ok());
  clock_.Advance(absl::Hours(1));
  Take(100, 100);
}

TEST_F(TenantLimitsTest, ACallOverAWindowsEndIsBilledToTheNextBudget) {
  rules_.budget_tokens = {100};
  rules_.budget_per = absl::Hours(1);
  auto over = Reserve(90);
  ASSERT_TRUE(over.ok());
  clock_.Advance(absl::Hours(1));
  EXPECT_FALSE(Reserve(11).ok());
  auto beside = Reserve(10);
  ASSERT_TRUE(beside.ok());
  (*over)->Settle(60);
  (*beside)->Settle(0);
  EXPECT_FALSE(Reserve(41).ok());
  EXPECT_TRUE(Reserve(40).ok());
}

TEST_F(TenantLimitsTest, ARefundAfterARefillIsNoSecondBucket) {
  rules_.rpm = {1};
  rules_.tpm = {100};
  auto held = Reserve(80);
  ASSERT_TRUE(held.ok());
  clock_.Advance(absl::Seconds(60));  // full again
  Take(100, 100);
  held->reset();  // never ran: its request and tokens would have run over
  EXPECT_THAT(Refusal(1), HasSubstr("rpm"));
  rules_.rpm = {};
  EXPECT_THAT(Refusal(1), HasSubstr("tpm"));
  clock_.Advance(absl::Seconds(60));
  held = Reserve(80);
  auto second = Reserve(20);
  ASSERT_TRUE(held.ok() && second.ok());
  clock_.Advance(absl::Seconds(30));  // 50 of the 100 may still come back
  Take(50, 50);
  (*held)->Settle(40);
  EXPECT_FALSE(Reserve(31).ok());  // the one held longest has lost 50 of its 80
  Take(30, 30);
  (*second)->Settle(0);
  EXPECT_FALSE(Reserve(21).ok());
  EXPECT_TRUE(Reserve(20).ok());
}

TEST_F(TenantLimitsTest, AllLimitsOrNone) {
  rules_.rpm = {5};
  rules_.tpm = {10};
  Take(10, 10);
  for (int i = 0; i < 10; ++i) EXPECT_THAT(Refusal(5), HasSubstr("tpm"));  // takes no request
  clock_.Advance(absl::Seconds(60));
  for (int i = 0; i < 5; ++i) Take(1, 1);
  EXPECT_THAT(Refusal(1), HasSubstr("rpm"));
}

TEST_F(TenantLimitsTest, ThreadsTakeNoMoreThanThereIs) {
  rules_.tpm = {1000};
  std::atomic<int> admitted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 3000; ++i) {
        auto reserved = limits_->Reserve("a", rules_, 1);
        if (!reserved.ok()) continue;
        (*reserved)->Settle(1);
        ++admitted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted, 1000);
}

TEST(TenantRules, AreItsOwnOrThoseOfAll) {
  ServerConfig config;
  EXPECT_EQ(RulesOf(config, "a"), nullptr);
  config.tenants["*"].rpm = {1};
  config.tenants["a"].rpm = {2};
  EXPECT_EQ(RulesOf(config, "a")->rpm.value, 2);
  EXPECT_EQ(RulesOf(config, "b")->rpm.value, 1);
}

}  // namespace
}  // namespace penstock
