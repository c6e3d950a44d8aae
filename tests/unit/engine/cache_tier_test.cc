#include "engine/cache_tier.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

Hash128 HashOf(uint64_t n) { return {n, ~n}; }

CacheTier TierOf(int32_t places) { return CacheTier({{CacheRetention::kFull, 0, 100, 8, places}}); }

TEST(CacheTier, IsOnlyThereWhereEveryGroupHasPlaces) {
  EXPECT_FALSE(CacheTier({}).on());
  EXPECT_FALSE(TierOf(0).on());
  EXPECT_TRUE(TierOf(1).on());
  EXPECT_FALSE(
      CacheTier({{CacheRetention::kFull, 0, 100, 8, 4}, {CacheRetention::kRecurrent, 0, 100, 8, 0}})
          .on());
}

TEST(CacheTier, SaysWhatIsToBeCopiedOnceAndInOrder) {
  CacheTier tier = TierOf(2);
  tier.Export(0, 5, HashOf(1));
  const BlockId place = tier.Find(0, HashOf(1));
  ASSERT_NE(place, kNoBlock);
  tier.Hold(0, place);
  tier.Import(0, 3, place);
  const std::vector<BlockMove> moves = tier.TakeMoves();
  ASSERT_EQ(moves.size(), 2u);
  EXPECT_FALSE(moves[0].to_block);
  EXPECT_EQ(moves[0].block, 5);
  EXPECT_EQ(moves[0].place, place);
  EXPECT_TRUE(moves[1].to_block);
  EXPECT_EQ(moves[1].block, 3);
  EXPECT_EQ(moves[1].place, place);
  EXPECT_TRUE(tier.TakeMoves().empty());
  EXPECT_EQ(tier.Find(0, HashOf(1)), place);  // it is in both
  EXPECT_EQ(tier.exported_bytes(), 100);
  EXPECT_EQ(tier.imported_bytes(), 100);
}

TEST(CacheTier, GivesThePlaceThatWasUsedLongestAgo) {
  CacheTier tier = TierOf(2);
  tier.Export(0, 0, HashOf(1));
  tier.Export(0, 1, HashOf(2));
  EXPECT_EQ(tier.num_evicted(), 0);
  tier.Export(0, 4, HashOf(1));  // is there: used, and not copied again
  EXPECT_EQ(tier.TakeMoves().size(), 2u);
  tier.Export(0, 2, HashOf(3));
  EXPECT_EQ(tier.num_evicted(), 1);
  EXPECT_EQ(tier.num_used(), 2);
  EXPECT_NE(tier.Find(0, HashOf(1)), kNoBlock);
  EXPECT_EQ(tier.Find(0, HashOf(2)), kNoBlock);
}

TEST(CacheTier, LosesABlockRatherThanAPlaceThatIsHeld) {
  CacheTier tier = TierOf(1);
  tier.Export(0, 0, HashOf(1));
  const BlockId place = tier.Find(0, HashOf(1));
  tier.Hold(0, place);
  tier.Hold(0, place);  // of two sequences
  tier.Export(0, 1, HashOf(2));
  EXPECT_EQ(tier.Find(0, HashOf(2)), kNoBlock);
  EXPECT_EQ(tier.num_exported(), 1);
  tier.ForgetAll();  // what it holds is still to be copied
  EXPECT_EQ(tier.Find(0, HashOf(1)), kNoBlock);
  tier.LetGo(0, place);
  tier.Export(0, 1, HashOf(2));
  EXPECT_EQ(tier.Find(0, HashOf(2)), kNoBlock);
  tier.LetGo(0, place);
  tier.Export(0, 1, HashOf(2));
  EXPECT_EQ(tier.Find(0, HashOf(2)), place);
  EXPECT_EQ(tier.num_evicted(), 0);
}

TEST(CacheTier, KeepsGroupsApart) {
  CacheTier tier({{CacheRetention::kFull, 0, 100, 8, 2}, {CacheRetention::kWindow, 32, 70, 4, 1}});
  tier.Export(1, 3, HashOf(1));
  EXPECT_EQ(tier.Find(0, HashOf(1)), kNoBlock);
  EXPECT_NE(tier.Find(1, HashOf(1)), kNoBlock);
  EXPECT_EQ(tier.TakeMoves().at(0).group, 1);
  EXPECT_EQ(tier.exported_bytes(), 70);
  EXPECT_EQ(tier.num_places(), 3);
}

}  // namespace
}  // namespace penstock
