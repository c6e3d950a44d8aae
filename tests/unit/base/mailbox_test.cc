#include "base/mailbox.h"

#include <memory>
#include <thread>

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(Mailbox, RefusesWhatIsBeyondItsCapacityAndKeepsTheMessage) {
  Mailbox<std::unique_ptr<int>> mailbox(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  EXPECT_TRUE(mailbox.TryPush(first));
  EXPECT_FALSE(mailbox.TryPush(second));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(mailbox.TakeAll().size(), 1u);
  EXPECT_TRUE(mailbox.TryPush(second));
}

TEST(Mailbox, HandsOverInOrderAndEndsAfterTheLastMessage) {
  Mailbox<int> mailbox(0);
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) {
      int message = i;
      ASSERT_TRUE(mailbox.TryPush(message));
    }
    mailbox.Close();
  });
  int expected = 0;
  while (expected < 1000) {
    mailbox.Wait();
    for (const int message : mailbox.TakeAll()) EXPECT_EQ(message, expected++);
  }
  EXPECT_EQ(expected, 1000);
  producer.join();  // it closes after its last message
  int late = 1;
  EXPECT_FALSE(mailbox.TryPush(late));
}

}  // namespace
}  // namespace penstock
