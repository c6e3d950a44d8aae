#include "engine/block_pool.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

Hash128 H(uint64_t n) { return {n, n}; }

TEST(BlockPool, HandsOutEachBlockOnceThenNone) {
  BlockPool pool(3);
  std::vector<bool> seen(3);
  for (int i = 0; i < 3; ++i) {
    const auto block = pool.Allocate();
    ASSERT_TRUE(block);
    EXPECT_FALSE(seen[*block]);
    seen[*block] = true;
  }
  EXPECT_FALSE(pool.Allocate());
  EXPECT_EQ(pool.num_held(), 3);
}

TEST(BlockPool, FindsAFreedBlockUntilItIsAllocatedAgain) {
  BlockPool pool(1);
  const BlockId block = *pool.Allocate();
  EXPECT_TRUE(pool.Register(block, H(1)));
  pool.Release(block);
  EXPECT_EQ(pool.Find(H(1)), block);
  pool.Hold(block);
  EXPECT_FALSE(pool.Allocate());
  pool.Release(block);
  EXPECT_EQ(*pool.Allocate(), block);
  EXPECT_EQ(pool.Find(H(1)), kNoBlock);
}

TEST(BlockPool, TakesEmptyBlocksFirstThenTheLeastRecentlyUsed) {
  BlockPool pool(3);
  const BlockId a = *pool.Allocate(), b = *pool.Allocate(), c = *pool.Allocate();
  pool.Register(a, H(1));
  pool.Register(b, H(2));
  pool.Release(a);
  pool.Release(b);
  pool.Release(c);
  pool.Hold(a);  // used again: now younger than b
  pool.Release(a);
  EXPECT_EQ(*pool.Allocate(), c);
  EXPECT_EQ(*pool.Allocate(), b);
  EXPECT_EQ(*pool.Allocate(), a);
}

TEST(BlockPool, KeepsTheFirstOfTwoBlocksWithOneHash) {
  BlockPool pool(2);
  const BlockId a = *pool.Allocate(), b = *pool.Allocate();
  EXPECT_TRUE(pool.Register(a, H(1)));
  EXPECT_FALSE(pool.Register(b, H(1)));
  EXPECT_EQ(pool.Find(H(1)), a);
  EXPECT_EQ(pool.num_cached(), 1);
}

TEST(BlockPool, ForgetsHashesButKeepsHolders) {
  BlockPool pool(2);
  const BlockId a = *pool.Allocate();
  pool.Register(a, H(1));
  pool.ForgetAll();
  EXPECT_EQ(pool.Find(H(1)), kNoBlock);
  EXPECT_EQ(pool.num_held(), 1);
  EXPECT_TRUE(pool.Register(a, H(2)));
}

}  // namespace
}  // namespace penstock
