#include "base/content_hash.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <vector>

#include "fakes/temp_dir.h"

namespace penstock {
namespace {

std::vector<std::byte> Bytes(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 + i / 256);
  return bytes;
}

TEST(ContentHash, ChangesWithEveryBitAndWithTheLength) {
  std::set<uint64_t> seen;
  size_t num_inputs = 0;
  for (const size_t size : {0, 1, 7, 8, 63, 64, 65, 200}) {
    std::vector<std::byte> bytes = Bytes(size);
    seen.insert(ContentHash(bytes));
    ++num_inputs;
    for (size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= std::byte{1} << bit % 8;
      seen.insert(ContentHash(bytes));
      ++num_inputs;
      bytes[bit / 8] ^= std::byte{1} << bit % 8;
    }
  }
  EXPECT_EQ(seen.size(), num_inputs);
}

TEST(ContentHash, TellsZerosOfAnotherLengthAndAnotherOrderApart) {
  EXPECT_NE(ContentHash(std::vector<std::byte>(64)), ContentHash(std::vector<std::byte>(65)));
  EXPECT_NE(JoinHashes({1, 2}), JoinHashes({2, 1}));
}

TEST(ContentHash, OfAFileIsThatOfItsChunks) {
  const TempDir dir;
  const std::string path = dir.path() + "/content_hash_test";
  const std::vector<std::byte> bytes = Bytes(2 * kHashChunk + 12345);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  WorkerPool pool(2);
  int64_t size = 0;
  const auto hash = HashFile(path, pool, size);
  ASSERT_TRUE(hash.ok()) << hash.status();
  EXPECT_EQ(size, static_cast<int64_t>(bytes.size()));
  const auto all = absl::MakeConstSpan(bytes);
  EXPECT_EQ(*hash, JoinHashes({ContentHash(all.subspan(0, kHashChunk)),
                               ContentHash(all.subspan(kHashChunk, kHashChunk)),
                               ContentHash(all.subspan(2 * kHashChunk))}));
  EXPECT_EQ(HashFile(path + ".none", pool, size).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(HashFile("/", pool, size).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
