#include "service/recent_errors.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

RequestRecord Failed(int code, const std::string& message, const std::string& tenant = "a") {
  RequestRecord record;
  record.code = code;
  record.error = message;
  record.tenant = tenant;
  return record;
}

TEST(RecentErrors, KeepsTheLastFailuresNewestFirst) {
  RecentErrors errors;
  errors.Record(Failed(200, ""));
  errors.Record(Failed(499, "the client went away"));
  for (size_t i = 0; i < RecentErrors::kKept + 5; ++i)
    errors.Record(Failed(400, std::to_string(i)));
  const std::vector<RecentError> all = errors.List("");
  ASSERT_EQ(all.size(), RecentErrors::kKept);
  EXPECT_EQ(all.front().message, "104");
  EXPECT_EQ(all.back().message, "5");
}

TEST(RecentErrors, ATenantSeesItsOwn) {
  RecentErrors errors;
  errors.Record(Failed(400, "of a", "a"));
  errors.Record(Failed(500, "of b", "b"));
  ASSERT_EQ(errors.List("a").size(), 1);
  EXPECT_EQ(errors.List("a")[0].message, "of a");
  EXPECT_TRUE(errors.List("c").empty());
  EXPECT_EQ(errors.List("").size(), 2);
}

TEST(RecentErrors, LongMessagesAreCutBetweenCharacters) {
  RecentErrors errors;
  std::string message(RecentErrors::kMaxMessage - 1, 'x');
  errors.Record(Failed(400, message + "\u00e4\u00e4"));
  const std::string kept = errors.List("")[0].message;
  EXPECT_EQ(kept, message + "...");
}

}  // namespace
}  // namespace penstock
