// Paged attention on a GPU or under the emulator against float64, and against itself: split, in
// another batch, in another tile.
#include "parity/attention_case.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr Element kElements[] = {Element::kBFloat16, Element::kFloat16};

class AttentionTest : public AttentionCase {};

TEST_F(AttentionTest, EveryHeadSizeAndCache) {
  for (const Element element : kElements) {
    for (const Element cache : {element, Element::kInt8}) {
      for (const int32_t dim : {16, 20, 24, 32, 64, 80, 96, 128, 192, 256, 512}) {
        AttentionShape s;
        s.element = element;
        s.cache = cache;
        s.head_dim = dim;
        s.group = 1 + Below(3);
        s.num_kv_heads = dim > 128 ? 1 : 2;
        s.block_size = 16 * (1 + Below(3));
        Run(s, {{1, Below(150)}, {2, Below(40)}});
      }
    }
  }
}

TEST_F(AttentionTest, KeysThatLieAsValuesDoOrAreValues) {
  for (const Element element : kElements) {
    for (const Element cache : {element, Element::kInt8}) {
      for (const int32_t dim : {20, 32, 64, 96, 128, 256, 512}) {
        AttentionShape s;
        s.element = element;
        s.cache = cache;
        s.head_dim = dim;
        s.keys_are_values = Below(2) == 0;
        s.key_unit = s.keys_are_values ? 16 : 1;
        s.num_kv_heads = 1;
        s.group = 1 + Below(16);
        Run(s, {{1, Below(150)}, {1 + Below(2), Below(40)}});
      }
    }
  }
}

TEST_F(AttentionTest, EveryHeadSizeAndCacheInWideTiles) {
  for (const Element element : kElements) {
    for (const Element cache : {element, Element::kInt8}) {
      for (const int32_t dim : {16, 20, 24, 32, 64, 80, 96, 128, 192, 256}) {
        AttentionShape s;
        s.element = element;
        s.cache = cache;
        s.head_dim = dim;
        s.num_kv_heads = 1;
        s.group = 1 + Below(4);
        s.widest_tile = WidestAttentionTile(dim, 16);
        s.block_size = 16 * (1 + Below(3));
        Run(s, {{130 / s.group, Below(70)}, {1, Below(40)}, {17, Below(10)}});
      }
    }
  }
}

TEST_F(AttentionTest, EveryLengthAndPosition) {
  for (const int32_t positions : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129}) {
    for (const int32_t rows : {1, 3, 16, 17, 63, 64, 65}) {
      AttentionShape s;
      s.widest_tile = std::vector<int32_t>{16, 64, 128}[Below(3)];
      s.cache = Below(2) == 0 ? Element::kInt8 : Element::kBFloat16;
      s.head_dim = 32;
      s.group = 1 + Below(2);
      Run(s, {{rows, std::max(0, positions - rows)}, {1, positions - 1}});
    }
  }
}

TEST_F(AttentionTest, WindowsCapsSinksAndGroups) {
  for (int trial = 0; trial < 60; ++trial) {
    AttentionShape s;
    s.widest_tile = std::vector<int32_t>{16, 64, 128}[Below(3)];
    s.element = kElements[trial % 2];
    s.cache = trial / 2 % 2 == 0 ? s.element : Element::kInt8;
    s.head_dim = 32;
    s.group = std::vector<int32_t>{1, 3, 7, 16, 20}[Below(5)];
    s.window = Below(3) == 0 ? 0 : std::vector<int32_t>{1, 15, 16, 17, 63, 64, 65, 200}[Below(8)];
    s.soft_cap = Below(2) == 0 ? 0.0f : 2.0f;
    s.sinks = Below(2) == 0;
    s.num_ctas = 1 + Below(4);
    Run(s, {{1 + Below(s.widest_tile == 16 ? 5 : 40), Below(300)}, {1, Below(300)}, {2, 0}});
  }
}

TEST_F(AttentionTest, SplitsAreMerged) {
  for (int trial = 0; trial < 12; ++trial) {
    AttentionShape s;
    s.widest_tile = trial < 6 ? 16 : 64;
    s.element = kElements[trial % 2];
    s.cache = trial / 2 % 2 == 0 ? s.element : Element::kInt8;
    const bool is_large = trial % 6 == 4;
    s.head_dim = is_large ? 256 : 32;
    s.num_kv_heads = is_large ? 1 : 2;
    s.window = trial % 6 == 5 ? 400 : 0;
    s.sinks = trial % 3 == 1;
    s.chunk = is_large ? 256 : 0;
    s.num_ctas = 4;
    Run(s, {{1, 255 + Below(700)}, {3, 511}, {trial < 6 ? 1 : 20, 500}, {1, Below(20)}});
    EXPECT_TRUE(was_split());
  }
}

#if defined(PENSTOCK_EMULATE)
TEST_F(AttentionTest, MoreStagesWhereABlockHasMoreSharedMemory) {
  for (const size_t shared_bytes : {size_t{163} * 1024, size_t{227} * 1024}) {
    emulator::Configure({.seed = TestSeed(), .shared_bytes = shared_bytes});
    for (const Element cache : {Element::kBFloat16, Element::kInt8}) {
      for (const int32_t dim : {32, 128, 256}) {
        AttentionShape s;
        s.cache = cache;
        s.head_dim = dim;
        s.num_kv_heads = 1;
        s.num_ctas = 2;
        s.widest_tile = WidestAttentionTile(dim, 16);
        Run(s, {{1, 400}, {1, 70}, {40, 100}});
        s.widest_tile = 16;
        Run(s, {{1, 400}, {1, 70}});
      }
    }
  }
}
#endif

/// What the rope kernel caches is what attention reads.
TEST_F(AttentionTest, ReadsWhatRopeWrites) {
  for (const Element cache : {Element::kBFloat16, Element::kInt8}) {
    AttentionShape s;
    s.cache = cache;
    s.head_dim = 48;
    s.block_size = 32;
    const int32_t rows = 70, max_blocks = 3;
    const int32_t width = (s.num_heads() + 2 * s.num_kv_heads) * s.head_dim;
    const std::vector<float> x = Random(size_t(rows) * width, s.element);
    AttentionSequence of;  // the same rows as numbers
    of.num_rows = rows;
    for (int32_t r = 0; r < rows; ++r) {
      const auto row = x.begin() + r * width;
      const auto k = row + s.num_heads() * s.head_dim;
      const auto v = k + s.num_kv_heads * s.head_dim;
      of.q.insert(of.q.end(), row, k);
      of.k.insert(of.k.end(), k, v);
      of.v.insert(of.v.end(), v, row + width);
    }
    of.k_scale.assign(rows * s.num_kv_heads, 1.0f);
    of.v_scale = of.k_scale;

    PagedCache cached(s, 4);
    std::vector<int32_t> positions(rows);
    std::iota(positions.begin(), positions.end(), 0);
    DeviceRows qkv(s.element, x), y(s.element, size_t(rows) * s.num_heads() * s.head_dim);
    DeviceArray<uint8_t> data(cached.raw);
    DeviceArray<int32_t> tables(std::vector<int32_t>{2, 0, 3}), dpositions(positions);
    DeviceArray<int32_t> slots(std::vector<int32_t>(rows, 0));
    RopeArgs rope;
    rope.x = {qkv.data(), width};
    rope.qkv = qkv.data();
    rope.qkv_stride = width;
    rope.num_heads = s.num_heads();
    rope.num_kv_heads = s.num_kv_heads;
    rope.head_dim = s.head_dim;
    rope.positions = dpositions.data();
    rope.slots = slots.data();
    rope.cache = cached.layout;
    rope.cache.data = data.data();
    rope.cache.tables = tables.data();
    rope.cache.max_blocks = max_blocks;
    rope.rows = rows;
    ASSERT_EQ(LaunchRope(rope, nullptr), cudaSuccess);

    AttentionPlanOptions options;
    options.num_kv_heads = s.num_kv_heads;
    options.group = s.group;
    AttentionPlan plan;
    PlanAttention(options, std::vector<SequenceRows>{{0, 0, rows, 0}}, plan);
    DeviceArray<int32_t> cta_begin(plan.cta_begin);
    DeviceArray<AttentionItem> items(plan.items);
    AttentionArgs a;
    a.q = qkv.data();
    a.q_stride = width;
    a.y = y.data();
    a.y_stride = s.num_heads() * s.head_dim;
    a.num_kv_heads = s.num_kv_heads;
    a.group = s.group;
    a.head_dim = s.head_dim;
    a.scale = s.scale();
    a.cache = rope.cache;
    a.cta_begin = cta_begin.data();
    a.items = items.data();
    a.num_ctas = 1;
    a.widest_tile = plan.widest_tile;
    ASSERT_EQ(LaunchAttention(a, nullptr), cudaSuccess);  // it waits for what rope writes
    const std::vector<double> expected = Reference(s, of, {});
    if (cache == Element::kBFloat16) {
      ExpectClose(s, y.Values(), expected);
      continue;
    }
    const std::vector<float> got = y.Values();
    double error = 0, norm = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      error += std::pow(got[i] - expected[i], 2);
      norm += std::pow(expected[i], 2);
    }
    EXPECT_LE(std::sqrt(error), 2e-2 * std::sqrt(norm)) << "of which 1e-2 are the codes'";
  }
}

TEST_F(AttentionTest, NothingToDo) {
  AttentionShape s;
  Run(s, {});
  Run(s, {{0, 5}});
}

TEST_F(AttentionTest, WithAFixedChunkARowIsTheSameAloneAndAmongStrangers) {
  for (const Element cache : {Element::kBFloat16, Element::kInt8}) {
    AttentionShape s;
    s.cache = cache;
    s.head_dim = 32;
    s.group = 3;
    s.num_kv_heads = 1;
    s.sinks = true;
    s.chunk = kDeterministicChunk;
    s.window = cache == Element::kInt8 ? 600 : 0;
    const std::vector<float> sinks = RandomSinks(s);
    // Eight rows at once, over the border of two chunks, or one after the other.
    const AttentionSequence whole = RandomSequence(s, 8, 508);
    const AttentionSequence stranger = RandomSequence(s, 1, 700), other = RandomSequence(s, 5, 9);
    const auto alone = Attend(s, {&whole}, sinks)[0];
    s.num_ctas = 7;
    EXPECT_EQ(Attend(s, {&stranger, &whole, &other}, sinks)[1], alone);
    for (int32_t r = 0; r < whole.num_rows; ++r) {
      AttentionSequence one = whole;
      const size_t width = s.num_heads() * s.head_dim;
      one.num_rows = 1;
      one.position_begin += r;
      one.q = {whole.q.begin() + r * width, whole.q.begin() + (r + 1) * width};
      const std::vector<float> expected(alone.begin() + r * width, alone.begin() + (r + 1) * width);
      EXPECT_EQ(Attend(s, {&other, &one}, sinks)[1], expected) << "row " << r;
    }
  }
}

TEST_F(AttentionTest, SplitAndUnsplitAgree) {
  for (const int32_t widest : {16, 64, 128}) {
    AttentionShape s;
    s.element = Element::kFloat16;
    s.cache = Element::kFloat16;
    s.head_dim = 32;
    s.num_kv_heads = 1;
    s.widest_tile = widest;
    s.sinks = widest == 64;
    const std::vector<float> sinks = RandomSinks(s);
    const AttentionSequence of = RandomSequence(s, widest == 16 ? 3 : widest / 2 - 3, 700);
    s.chunk = 1 << 20;
    const auto whole = Attend(s, {&of}, sinks)[0];
    EXPECT_FALSE(was_split());
    s.chunk = 256;
    const auto split = Attend(s, {&of}, sinks)[0];
    EXPECT_TRUE(was_split());
    double error = 0, norm = 0;
    for (size_t i = 0; i < whole.size(); ++i) {
      error += std::pow(split[i] - whole[i], 2);
      norm += std::pow(whole[i], 2);
    }
    EXPECT_LE(std::sqrt(error), 1e-3 * std::sqrt(norm));
    EXPECT_GT(error, 0) << "sums in another order are not the same bits";
  }
}

TEST_F(AttentionTest, WideTilesToo) {
  for (const int32_t widest : {64, 128}) {
    AttentionShape s;
    s.head_dim = 64;
    s.num_kv_heads = 1;
    s.widest_tile = widest;
    s.chunk = kDeterministicChunk;
    const AttentionSequence of = RandomSequence(s, widest / 2, 500);
    const AttentionSequence stranger = RandomSequence(s, 1, 700), other = RandomSequence(s, 9, 0);
    const auto alone = Attend(s, {&of}, {})[0];
    s.num_ctas = 2;
    EXPECT_EQ(Attend(s, {&stranger, &other, &of}, {})[2], alone);
  }
}

TEST_F(AttentionTest, WhatIsNoNumberStaysWithItsRow) {
  for (const Element cache : {Element::kBFloat16, Element::kInt8}) {
    AttentionShape s;
    s.cache = cache;
    s.head_dim = 32;
    s.num_kv_heads = 1;
    s.group = 1;
    AttentionSequence of = RandomSequence(s, 3, 20);
    of.q[s.head_dim] = std::nanf("");  // of row 1
    const auto got = Attend(s, {&of}, {})[0];
    for (int32_t i = 0; i < s.head_dim; ++i) {
      EXPECT_FALSE(std::isnan(got[i]));
      EXPECT_TRUE(std::isnan(got[s.head_dim + i]));
      EXPECT_FALSE(std::isnan(got[2 * s.head_dim + i]));
    }
  }
}

TEST_F(AttentionTest, AScaleThatIsNoNumberIsLaterRowsAlone) {
  for (const bool of_keys : {true, false}) {
    AttentionShape s;
    s.cache = Element::kInt8;
    s.head_dim = 32;
    s.num_kv_heads = 1;
    s.group = 1;
    AttentionSequence of = RandomSequence(s, 3, 20);
    (of_keys ? of.k_scale : of.v_scale)[21] = std::nanf("");  // row 1's own
    const auto got = Attend(s, {&of}, {})[0];
    for (int32_t i = 0; i < s.head_dim; ++i) {
      EXPECT_FALSE(std::isnan(got[i]));
      EXPECT_TRUE(std::isnan(got[s.head_dim + i]));
      EXPECT_TRUE(std::isnan(got[2 * s.head_dim + i]));
    }
  }
}

TEST_F(AttentionTest, WhatItCannotServeIsRefused) {
  const AttentionArgs fine = [] {
    AttentionArgs a;
    a.head_dim = 64;
    a.cache.head_stride = 1024;
    return a;
  }();
  EXPECT_EQ(LaunchAttention(fine, nullptr), cudaSuccess);  // there are no CTAs
  AttentionArgs a = fine;
  a.head_dim = 516;
  EXPECT_EQ(LaunchAttention(a, nullptr), cudaErrorInvalidValue);
  a = fine;
  a.head_dim = 18;
  EXPECT_EQ(LaunchAttention(a, nullptr), cudaErrorInvalidValue);
  a = fine;
  a.cache.element = Element::kFloat16;
  EXPECT_EQ(LaunchAttention(a, nullptr), cudaErrorInvalidValue);
  a = fine;
  a.cache.block_size = 8;
  EXPECT_EQ(LaunchAttention(a, nullptr), cudaErrorInvalidValue);
  a = fine;
  a.head_dim = 512;
  a.widest_tile = 64;
  EXPECT_EQ(LaunchAttention(a, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
