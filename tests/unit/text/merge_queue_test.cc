// The order in which waiting merges come, against a sorted set.
#include "text/merge_queue.h"

#include <random>
#include <set>
#include <utility>

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(MergeQueue, GivesTheBestRankAndTheLeftmostWhateverCameWhen) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    const uint32_t num_ranks = 1 + below(20);
    MergeQueue queue(0);
    std::multiset<std::pair<uint32_t, int32_t>> expected;
    const auto push = [&](uint32_t rank) {
      const auto position = static_cast<int32_t>(below(seed % 2 == 0 ? 3000 : 2000000000));
      queue.Push({rank, position});
      expected.emplace(rank, position);
    };
    for (int i = 0; i < 3000; ++i) push(below(num_ranks));
    for (int budget = 3000; !expected.empty();) {
      const auto entry = queue.Pop();
      ASSERT_TRUE(entry.has_value());
      ASSERT_EQ(std::make_pair(entry->rank, entry->position), *expected.begin());
      expected.erase(expected.begin());
      for (uint32_t n = below(3); n > 0 && budget > 0; --n, --budget) push(below(2 * num_ranks));
    }
    EXPECT_EQ(queue.Pop(), std::nullopt);
  }
}

TEST(MergeQueue, TakesTheGreatestRankToo) {
  MergeQueue queue(1);
  queue.Push({0xFFFFFFFEu, 1});
  queue.Push({0, 2});
  EXPECT_EQ(queue.Pop(), (MergeQueue::Entry{0, 2}));
  queue.Push({0, 1});
  EXPECT_EQ(queue.Pop(), (MergeQueue::Entry{0, 1}));
  EXPECT_EQ(queue.Pop(), (MergeQueue::Entry{0xFFFFFFFEu, 1}));
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

}  // namespace
}  // namespace penstock
