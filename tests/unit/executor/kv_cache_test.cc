#include "executor/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/make_backend.h"

namespace penstock {
namespace {

ModelConfig Config(std::vector<int32_t> windows) {
  ModelConfig c;
  for (const int32_t window : windows) {
    c.layers.push_back({.heads = {4, 2, 8}, .window = window});
  }
  return c;
}

class KvCacheTest : public ::testing::Test {
 protected:
  absl::StatusOr<KvCache> Make(const ModelConfig& config, int64_t budget) {
    KvCacheOptions options;
    options.budget_bytes = budget;
    options.max_len = 1024;
    options.max_step_tokens = 64;
    options.block_size = block_size_;
    return KvCache::Make(config, options, *device_);
  }
  int32_t block_size_ = 16;
  WorkerPool pool_{1};
  std::unique_ptr<Device> device_ = std::move(OpenBackend({"cpu", &pool_})->device);
};

constexpr int64_t kLayerBlock = 2 * 2 * 16 * 8 * 4;  // K and V, heads, positions, dim, float32

TEST_F(KvCacheTest, UsesTheBudgetAndNeverMore) {
  for (const int64_t budget :
       {int64_t{64} * 2 * kLayerBlock, int64_t{1'000'000}, int64_t{7'777'777}}) {
    const auto cache = Make(Config({0, 0}), budget);
    ASSERT_TRUE(cache.ok()) << cache.status();
    ASSERT_EQ(cache->groups().size(), 1u);
    const CacheGroup& group = cache->groups()[0];
    EXPECT_EQ(group.block_bytes, 2 * kLayerBlock);
    EXPECT_LE(group.num_blocks * group.block_bytes, budget);
    EXPECT_GT((group.num_blocks + 1) * group.block_bytes, budget);
  }
}

TEST_F(KvCacheTest, RefusesLessThanOneSequenceAndSaysHowMuchItNeeds) {
  const int64_t needed = 64 * 2 * kLayerBlock;
  EXPECT_TRUE(Make(Config({0, 0}), needed).ok());
  const auto cache = Make(Config({0, 0}), needed - 1);
  EXPECT_EQ(cache.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(cache.status().ToString(), ::testing::HasSubstr(std::to_string(needed)));
}

TEST_F(KvCacheTest, SplitsTheBudgetByWhatOneSequenceNeeds) {
  const int64_t budget = 10'000'000;
  const auto cache = Make(Config({0, 24, 24, 0, 24}), budget);
  ASSERT_TRUE(cache.ok());
  ASSERT_EQ(cache->groups().size(), 2u);
  const CacheGroup& full = cache->groups()[0];
  const CacheGroup& window = cache->groups()[1];
  EXPECT_EQ(full.retention, CacheRetention::kFull);
  EXPECT_EQ(window.retention, CacheRetention::kWindow);
  EXPECT_EQ(window.window, 24);
  EXPECT_EQ(full.block_bytes, 2 * kLayerBlock);
  EXPECT_EQ(window.block_bytes, 3 * kLayerBlock);
  EXPECT_LE(full.num_blocks * full.block_bytes + window.num_blocks * window.block_bytes, budget);
  // 1024 positions against 24 + 64 + 2 * 16: 64 blocks against 8.
  EXPECT_NEAR(full.num_blocks / double(window.num_blocks), 8.0, 0.2);
  EXPECT_EQ(cache->group_of(0), 0);
  EXPECT_EQ(cache->group_of(4), 1);
}

TEST_F(KvCacheTest, GivesEveryLayerItsOwnPlace) {
  const auto cache = Make(Config({0, 24, 0}), 10'000'000);
  ASSERT_TRUE(cache.ok());
  const KvLayer first = cache->layer(0, nullptr, 4);
  const KvLayer third = cache->layer(2, nullptr, 4);
  const int64_t bytes = static_cast<std::byte*>(third.data) - static_cast<std::byte*>(first.data);
  EXPECT_EQ(bytes, cache->groups()[0].num_blocks * kLayerBlock);
  EXPECT_EQ(first.head_stride, 16 * 8);
  EXPECT_EQ(first.kv_stride, 2 * 16 * 8);
  EXPECT_EQ(first.block_stride, 2 * 2 * 16 * 8);
}

TEST_F(KvCacheTest, RefusesOddBlockSizesAndTooManyWindows) {
  block_size_ = 24;
  EXPECT_EQ(Make(Config({0}), 1 << 30).status().code(), absl::StatusCode::kInvalidArgument);
  block_size_ = 16;
  EXPECT_EQ(Make(Config({0, 1, 2, 3, 4}), 1 << 30).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace penstock
