#include "backend/cpu/huge_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

size_t MappedBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t pages = 0;
  statm >> pages;
  return pages * 4096;
}

bool IsFilledWith(const DeviceBuffer& buffer, char value) {
  const char* begin = static_cast<const char*>(buffer.data());
  return std::all_of(begin, begin + buffer.bytes(), [value](char c) { return c == value; });
}

TEST(MapMemory, IsZeroAndAlignedToHugePagesWhereItIsLarge) {
  for (const size_t bytes : {size_t{1}, size_t{5000}, size_t{3} << 20, (size_t{9} << 20) + 1}) {
    const auto buffer = MapMemory(bytes);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->bytes(), bytes);
    EXPECT_TRUE(IsFilledWith(*buffer, 0));
    const size_t alignment = bytes >= size_t{2} << 20 ? size_t{2} << 20 : 4096;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % alignment, 0u) << bytes;
  }
  EXPECT_EQ(MapMemory(0)->data(), nullptr);
}

TEST(MapMemory, GivesBackAllThatItMapped) {
  const size_t before = MappedBytes();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(MapMemory((size_t{5} << 20) + 12345).ok());
  EXPECT_LT(MappedBytes(), before + (size_t{8} << 20));
}

TEST(MapMemory, SaysWhatThereIsNoMemoryFor) {
  const absl::Status status = MapMemory(size_t{1} << 60).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(WeightArena, GivesZeroedBuffersThatDoNotMeet) {
  std::mt19937_64 random(5);
  std::vector<std::optional<DeviceBuffer>> buffers;
  {
    WeightArena arena;
    for (int i = 0; i < 200; ++i) {
      const size_t most = i % 40 == 0 ? size_t{20} << 20 : size_t{2} << 20;
      auto buffer = arena.Allocate(1 + random() % most);
      ASSERT_TRUE(buffer.ok());
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
      ASSERT_TRUE(IsFilledWith(*buffer, 0)) << i;
      std::fill_n(static_cast<char*>(buffer->data()), buffer->bytes(), static_cast<char>(i));
      buffers.push_back(std::move(*buffer));
      if (i % 3 == 0) buffers[random() % buffers.size()].reset();
    }
  }  // buffers outlive the arena
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (!buffers[i]) continue;
    ASSERT_TRUE(IsFilledWith(*buffers[i], static_cast<char>(i))) << i;
  }
}

TEST(WeightArena, ReturnsItsChunksWithTheLastOfTheirBuffers) {
  const size_t before = MappedBytes();
  for (int run = 0; run < 50; ++run) {
    WeightArena arena;
    std::vector<DeviceBuffer> buffers;
    for (int i = 0; i < 20; ++i) buffers.push_back(*arena.Allocate(size_t{10} << 20));
  }
  EXPECT_LT(MappedBytes(), before + (size_t{64} << 20));
}

}  // namespace
}  // namespace penstock
