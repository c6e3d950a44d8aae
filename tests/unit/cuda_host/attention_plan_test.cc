#include "backend/cuda/attention_plan.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "base/sanitizers.h"
#include "gtest/gtest.h"
#include "test_seed.h"

namespace penstock {
namespace {

AttentionPlan PlanOf(const AttentionPlanOptions& options,
                     const std::vector<SequenceRows>& sequences) {
  AttentionPlan plan;
  PlanAttention(options, sequences, plan);
  return plan;
}

/// A row's query head and a position that it sees.
using Pair = std::tuple<int32_t, int32_t, int32_t>;

std::map<Pair, int> PairsOfItems(const AttentionPlanOptions& options, const AttentionPlan& plan,
                                 const std::vector<SequenceRows>& sequences) {
  std::map<int32_t, const SequenceRows*> sequence_of_row;
  for (const SequenceRows& s : sequences) {
    for (int32_t r = 0; r < s.num_rows; ++r) sequence_of_row[s.row_begin + r] = &s;
  }
  std::map<Pair, int> times;
  for (const AttentionItem& item : plan.items) {
    EXPECT_LT(item.kv_begin, item.kv_end);
    EXPECT_GE(item.num_vectors, 1);
    EXPECT_LE(item.num_vectors, item.tile);
    EXPECT_LT(item.head_begin, options.group);
    for (int32_t i = 0; i < item.num_vectors; ++i) {
      const int32_t row = item.row_begin + (item.head_begin + i) / options.group;
      const int32_t head = item.kv_head * options.group + (item.head_begin + i) % options.group;
      const int32_t position = item.position + (item.head_begin + i) / options.group;
      const auto found = sequence_of_row.find(row);
      if (found == sequence_of_row.end()) {
        ADD_FAILURE() << "row " << row << " is no sequence's";
        continue;
      }
      EXPECT_EQ(item.slot, found->second->slot);
      if (options.sees_all == 0)
        EXPECT_EQ(position, found->second->position_begin + row - found->second->row_begin);
      for (int32_t p = item.kv_begin; p < item.kv_end; ++p) {
        const bool in_window = options.window == 0 || p > position - options.window;
        if (p <= position && in_window) ++times[{row, head, p}];
      }
    }
  }
  return times;
}

std::map<Pair, int> PairsWanted(const AttentionPlanOptions& options,
                                const std::vector<SequenceRows>& sequences) {
  std::map<Pair, int> times;
  for (const SequenceRows& s : sequences) {
    for (int32_t r = 0; r < s.num_rows; ++r) {
      const int32_t position = s.position_begin + r;
      const int32_t first = options.window == 0 ? 0 : std::max(0, position - options.window + 1);
      for (int32_t head = 0; head < options.num_kv_heads * options.group; ++head) {
        const int32_t last = options.sees_all != 0 ? s.position_begin + s.num_rows - 1 : position;
        for (int32_t p = first; p <= last; ++p) times[{s.row_begin + r, head, p}] = 1;
      }
    }
  }
  return times;
}

/// Every merge gathers the items of its vectors in the order of their positions, and every partial
/// result is written by one item and read by one merge.
void ExpectMergesMatch(const AttentionPlan& plan) {
  std::map<int32_t, const AttentionItem*> by_partial;
  std::set<int32_t> written;
  for (const AttentionItem& item : plan.items) {
    if (item.partial < 0) continue;
    by_partial[item.partial] = &item;
    for (int32_t i = 0; i < item.num_vectors; ++i) {
      EXPECT_TRUE(written.insert(item.partial + i).second) << "written twice";
    }
  }
  EXPECT_EQ(written.size(), plan.num_partials);
  if (!written.empty()) {
    EXPECT_EQ(*written.begin(), 0);
    EXPECT_EQ(*written.rbegin(), plan.num_partials - 1);
  }
  size_t items = 0;
  for (const AttentionMerge& merge : plan.merges) {
    EXPECT_GT(merge.num_chunks, 1);
    int32_t end = -1;
    for (int32_t c = 0; c < merge.num_chunks; ++c, ++items) {
      const auto found = by_partial.find(merge.partial + c * merge.num_vectors);
      ASSERT_NE(found, by_partial.end());
      const AttentionItem& item = *found->second;
      EXPECT_EQ(item.kv_head, merge.kv_head);
      EXPECT_EQ(item.row_begin, merge.row_begin);
      EXPECT_EQ(item.head_begin, merge.head_begin);
      EXPECT_EQ(item.num_vectors, merge.num_vectors);
      if (c > 0) {
        EXPECT_EQ(item.kv_begin, end);
        EXPECT_EQ(item.kv_begin % plan.chunk, 0);
      }
      EXPECT_EQ(item.kv_begin / plan.chunk, (item.kv_end - 1) / plan.chunk);
      end = item.kv_end;
    }
  }
  EXPECT_EQ(items, by_partial.size());
}

void ExpectCtasCoverItems(const AttentionPlanOptions& options, const AttentionPlan& plan) {
  ASSERT_EQ(plan.cta_begin.size(), options.num_ctas + 1);
  EXPECT_EQ(plan.cta_begin.front(), 0);
  EXPECT_EQ(plan.cta_begin.back(), plan.items.size());
  EXPECT_TRUE(std::is_sorted(plan.cta_begin.begin(), plan.cta_begin.end()));
  int64_t all = 0, most = 0, longest = 0;
  for (int32_t c = 0; c < options.num_ctas; ++c) {
    int64_t load = 0;
    for (int32_t i = plan.cta_begin[c]; i < plan.cta_begin[c + 1]; ++i) {
      const int64_t cost = AttentionCost(options, plan.items[i]);
      longest = std::max(longest, cost);
      load += cost;
    }
    all += load;
    most = std::max(most, load);
  }
  EXPECT_LE(most, all / options.num_ctas + longest);  // what a CTA with the least takes
}

TEST(AttentionPlan, CoversEveryPairOnceInRandomBatches) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % n); };
  for (int trial = 0; trial < (kSanitized ? 12 : 120); ++trial) {
    AttentionPlanOptions options;
    options.num_kv_heads = 1 + below(3);
    options.group = 1 + below(trial % 7 == 0 ? 40 : 8);
    options.window = below(2) == 0 ? 0 : 1 + below(700);
    options.sees_all = options.window == 0 && below(3) == 0 ? 1 : 0;
    options.num_ctas = 1 + below(9);
    options.widest_tile = std::vector<int32_t>{16, 64, 128}[below(3)];
    options.chunk = std::vector<int32_t>{0, 256, 512}[below(3)];
    std::vector<SequenceRows> sequences(below(4));
    int32_t row = 0, longest = 0;
    for (SequenceRows& s : sequences) {
      s.slot = below(100);
      row += below(3);  // padded rows in between are nobody's
      s.row_begin = row;
      s.num_rows = below(3) == 0 ? below(150 / options.group + 1) : 1;
      s.position_begin = options.sees_all != 0 || below(4) == 0 ? 0 : below(1500);
      row += s.num_rows;
      longest = std::max(longest, s.position_begin + s.num_rows);
    }
    SCOPED_TRACE(testing::Message() << "trial " << trial << " group " << options.group << " window "
                                    << options.window << " chunk " << options.chunk);
    const AttentionPlan plan = PlanOf(options, sequences);
    EXPECT_EQ(PairsOfItems(options, plan, sequences), PairsWanted(options, sequences));
    ExpectMergesMatch(plan);
    ExpectCtasCoverItems(options, plan);
    for (const AttentionItem& item : plan.items) EXPECT_LE(item.tile, plan.widest_tile);
    EXPECT_LE(plan.widest_tile, options.widest_tile);
    int32_t most_rows = 0;
    for (const SequenceRows& s : sequences) most_rows += s.num_rows;
    const auto bounds = BoundAttentionPlan(options, most_rows, sequences.size(), longest);
    EXPECT_LE(plan.items.size(), bounds.items);
    EXPECT_LE(plan.merges.size(), bounds.merges);
    EXPECT_LE(plan.num_partials, bounds.partials);
    if (HasFailure()) return;
  }
}

TEST(AttentionPlan, NothingToDoIsNoItem) {
  AttentionPlanOptions options;
  options.num_ctas = 3;
  for (const auto& sequences :
       {std::vector<SequenceRows>{}, std::vector<SequenceRows>{{0, 0, 0, 17}}}) {
    const AttentionPlan plan = PlanOf(options, sequences);
    EXPECT_TRUE(plan.items.empty());
    EXPECT_TRUE(plan.merges.empty());
    EXPECT_EQ(plan.cta_begin, std::vector<int32_t>(4, 0));
  }
}

TEST(AttentionPlan, PicksTheTileByTheVectorsOfASequence) {
  AttentionPlanOptions options;
  options.group = 4;
  const auto tiles = [&](int32_t rows) {
    std::vector<int32_t> out;
    for (const AttentionItem& item : PlanOf(options, {{0, 0, rows, 0}}).items)
      out.push_back(item.tile);
    std::sort(out.begin(), out.end());
    return out;
  };
  EXPECT_EQ(tiles(1), (std::vector<int32_t>{16}));
  EXPECT_EQ(tiles(4), (std::vector<int32_t>{16}));
  EXPECT_EQ(tiles(5), (std::vector<int32_t>{64}));
  EXPECT_EQ(tiles(16), (std::vector<int32_t>{64}));
  EXPECT_EQ(tiles(17), (std::vector<int32_t>{128}));
  EXPECT_EQ(tiles(65), (std::vector<int32_t>{16, 128, 128}));
  options.widest_tile = 64;
  EXPECT_EQ(tiles(33), (std::vector<int32_t>{16, 64, 64}));
  options.widest_tile = 16;
  EXPECT_EQ(tiles(9), (std::vector<int32_t>{16, 16, 16}));
}

TEST(AttentionPlan, TakesTheSmallestChunkThatFitsFourItemsPerCta) {
  AttentionPlanOptions options;
  options.num_kv_heads = 2;
  options.num_ctas = 4;  // 16 items
  EXPECT_EQ(PlanOf(options, {{0, 0, 1, 256 * 8 - 1}}).chunk, 256);
  EXPECT_EQ(PlanOf(options, {{0, 0, 1, 256 * 8}}).chunk, 512);
  EXPECT_EQ(PlanOf(options, {{0, 0, 1, 200}}).chunk, 0) << "one item either way";
  std::vector<SequenceRows> many;
  for (int32_t i = 0; i < 9; ++i) many.push_back({i, i, 1, 5000});
  const AttentionPlan unsplit = PlanOf(options, many);  // 18 items at least
  EXPECT_EQ(unsplit.chunk, 0);
  EXPECT_EQ(unsplit.items.size(), 18);
  EXPECT_TRUE(unsplit.merges.empty());
}

TEST(AttentionPlan, AFixedChunkMakesItemsOfARowTheSameInEveryBatch) {
  AttentionPlanOptions options;
  options.group = 3;
  options.num_ctas = 5;
  options.widest_tile = 16;
  options.chunk = kDeterministicChunk;
  options.window = 900;
  const auto ranges = [&](const std::vector<SequenceRows>& sequences, int32_t row) {
    std::vector<std::pair<int32_t, int32_t>> out;
    for (const AttentionItem& item : PlanOf(options, sequences).items) {
      if (item.row_begin == row) out.push_back({item.kv_begin, item.kv_end});
    }
    std::sort(out.begin(), out.end());
    return out;
  };
  const auto alone = ranges({{0, 0, 1, 2000}}, 0);
  EXPECT_EQ(alone, (std::vector<std::pair<int32_t, int32_t>>{{1101, 1536}, {1536, 2001}}));
  EXPECT_EQ(ranges({{5, 0, 40, 100}, {0, 40, 1, 2000}, {2, 41, 1, 9}}, 40), alone);
}

TEST(AttentionPlan, TheLongestGoesAlone) {
  AttentionPlanOptions options;
  options.num_ctas = 2;
  options.chunk = 1 << 20;
  std::vector<SequenceRows> sequences = {
      {0, 0, 1, 99}, {1, 1, 1, 99}, {2, 2, 1, 9999}, {3, 3, 1, 99}, {4, 4, 1, 99}};
  const AttentionPlan plan = PlanOf(options, sequences);
  EXPECT_EQ(plan.cta_begin, (std::vector<int32_t>{0, 1, 5}));
  EXPECT_EQ(plan.items[0].slot, 2);
}

TEST(AttentionPlan, AWindowCutsWhatIsWalked) {
  AttentionPlanOptions options;
  options.window = 100;
  options.group = 2;
  const AttentionPlan plan = PlanOf(options, {{0, 7, 3, 1000}});
  ASSERT_EQ(plan.items.size(), 1);
  EXPECT_EQ(plan.items[0].kv_begin, 901);
  EXPECT_EQ(plan.items[0].kv_end, 1003);
  EXPECT_EQ(plan.items[0].row_begin, 7);
}

}  // namespace
}  // namespace penstock
