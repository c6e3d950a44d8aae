#include "backend/cpu/packed_file.h"

#include <gtest/gtest.h>

#include <cstring>

namespace penstock {
namespace {

std::vector<PackedLayer> Layers() {
  PackedLayer a;
  a.n = 40;
  a.k = 64;
  a.weight = {5000, 11};
  a.bias = {160, 12};
  a.types = {{DType::kBFloat16, DType::kFloat32}, {DType::kFloat8E8M0, DType::kFloat16}};
  PackedLayer b;
  b.n = b.k = 1;
  b.weight = {4096, 13};
  b.types = {{DType::kFloat32, DType::kFloat32}};
  return {a, b};
}

constexpr int64_t kIndexBegin = kPackedPage * (1 + 2 + 1 + 1);  // weight, bias, weight

TEST(PackedFile, IndexAndHeaderComeBackAsTheyWere) {
  const std::vector<PackedLayer> layers = Layers();
  const std::vector<std::byte> index = FormatPackedIndex(layers);
  const auto parsed = ParsePackedIndex(index, kIndexBegin);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ((*parsed)[i].n, layers[i].n);
    EXPECT_EQ((*parsed)[i].k, layers[i].k);
    EXPECT_EQ((*parsed)[i].weight.bytes, layers[i].weight.bytes);
    EXPECT_EQ((*parsed)[i].bias.hash, layers[i].bias.hash);
    EXPECT_EQ((*parsed)[i].types, layers[i].types);
  }
  const PackedHeader header{{3, 4}, kIndexBegin, static_cast<int64_t>(index.size()), 5};
  const auto page = FormatPackedHeader(header);
  const auto back = ParsePackedHeader(page, kIndexBegin + header.index_bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->key, header.key);
  EXPECT_EQ(back->index_begin, kIndexBegin);
  EXPECT_EQ(back->index_hash, 5u);
  EXPECT_FALSE(ParsePackedHeader(page, kIndexBegin + header.index_bytes + 1).ok());
  EXPECT_FALSE(ParsePackedHeader(page, kPackedPage - 1).ok());
  EXPECT_FALSE(ParsePackedHeader(absl::MakeConstSpan(page).first(100), 100).ok());
}

TEST(PackedFile, HeaderWithAFlippedBitIsRefused) {
  std::vector<std::byte> page = FormatPackedHeader({{3, 4}, kIndexBegin, 10, 5});
  for (size_t bit = 0; bit < 8 * page.size(); ++bit) {
    page[bit / 8] ^= std::byte{1} << bit % 8;
    ASSERT_FALSE(ParsePackedHeader(page, kIndexBegin + 10).ok()) << "bit " << bit;
    page[bit / 8] ^= std::byte{1} << bit % 8;
  }
}

TEST(PackedFile, IndexThatIsCutOrReachesTooFarIsRefused) {
  const std::vector<std::byte> index = FormatPackedIndex(Layers());
  for (size_t size = 0; size < index.size(); ++size) {
    ASSERT_FALSE(ParsePackedIndex(absl::MakeConstSpan(index).first(size), kIndexBegin).ok());
  }
  EXPECT_FALSE(ParsePackedIndex(index, kIndexBegin - kPackedPage).ok());
  EXPECT_FALSE(ParsePackedIndex(index, kIndexBegin + kPackedPage).ok());
  for (const int64_t bytes : {int64_t{-1}, INT64_MAX, INT64_MAX - kPackedPage, INT64_MIN}) {
    std::vector<PackedLayer> layers = Layers();
    layers[1].weight.bytes = bytes;
    EXPECT_FALSE(ParsePackedIndex(FormatPackedIndex(layers), kIndexBegin).ok()) << bytes;
  }
  std::vector<PackedLayer> layers = Layers();
  layers[0].n = int64_t{1} << 50;
  EXPECT_FALSE(ParsePackedIndex(FormatPackedIndex(layers), kIndexBegin).ok());
  layers = Layers();
  layers[0].types[0].first = DType::kInt64;
  EXPECT_FALSE(ParsePackedIndex(FormatPackedIndex(layers), kIndexBegin).ok());
}

TEST(PackedFile, EveryNumberOfTheIndexMayBeHostile) {
  const std::vector<std::byte> index = FormatPackedIndex(Layers());
  for (size_t at = 0; at + 8 <= index.size(); at += 8) {
    for (const uint64_t value : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 60}) {
      std::vector<std::byte> changed = index;
      std::memcpy(changed.data() + at, &value, 8);
      const auto layers = ParsePackedIndex(changed, kIndexBegin);
      if (!layers.ok()) continue;
      for (const PackedLayer& layer : *layers) {
        EXPECT_LE(layer.weight.bytes + layer.bias.bytes, kIndexBegin);
      }
    }
  }
}

}  // namespace
}  // namespace penstock
