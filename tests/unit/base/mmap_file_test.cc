#include "base/mmap_file.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

TEST(MmapFile, ShowsTheBytes) {
  const TempDir dir;
  const auto file = MmapFile::Open(dir.Write("a", "hello"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()),
            "hello");
}

TEST(MmapFile, MapsAnEmptyFileToNoBytes) {
  const TempDir dir;
  const auto file = MmapFile::Open(dir.Write("a", ""));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MmapFile, NamesTheMissingFile) {
  const auto file = MmapFile::Open("/nowhere/at/all");
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(file.status().ToString().find("/nowhere/at/all"), std::string::npos);
}

TEST(MmapFile, RefusesAFolder) {
  const TempDir dir;
  EXPECT_EQ(MmapFile::Open(dir.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

constexpr size_t kSomePages = size_t{64} << 10;

int SumOf(const MmapFile& file) {
  int sum = 0;
  for (const std::byte b : file.bytes()) sum += std::to_integer<int>(b);
  return sum;
}

TEST(MmapFile, OfAFileThatIsCutReadsZerosAndSaysSo) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  const auto file = MmapFile::Open(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(SumOf(*file), static_cast<int>(kSomePages));
  EXPECT_TRUE(file->Intact().ok());
  std::filesystem::resize_file(path, kSomePages / 2);
  EXPECT_EQ(SumOf(*file), static_cast<int>(kSomePages / 2));
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(file->Intact().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(file->Intact().message().find(path), std::string::npos);
}

TEST(MmapFile, SaysThatPagesWereLostWhereTheFileIsGone) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  const auto file = MmapFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(path, 0);
  std::filesystem::remove(path);
  EXPECT_EQ(SumOf(*file), 0);
  EXPECT_EQ(file->Intact().code(), absl::StatusCode::kDataLoss);
}

TEST(MmapFile, SaysThatTheFileWasWritten) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  const auto file = MmapFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::seconds(1));
  EXPECT_EQ(file->Intact().code(), absl::StatusCode::kDataLoss);
}

TEST(MmapFile, IsNotConcernedByAnotherFileInItsPlace) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  const auto file = MmapFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::rename(dir.Write("new", "shorter"), path);
  EXPECT_EQ(SumOf(*file), static_cast<int>(kSomePages));
  EXPECT_TRUE(file->Intact().ok());
}

TEST(MmapFile, MovesWithWhatItWatches) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  auto file = MmapFile::Open(path);
  ASSERT_TRUE(file.ok());
  const MmapFile moved = *std::move(file);
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(SumOf(moved), 0);
  EXPECT_EQ(moved.Intact().code(), absl::StatusCode::kDataLoss);
}

TEST(MmapFileDeathTest, InUseForGoodEndsTheProcessWithALine) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  const auto use = [&] {
    const auto file = MmapFile::Open(path);
    file->KeepForUse();
    std::filesystem::resize_file(path, 0);
    std::exit(SumOf(*file));
  };
  EXPECT_EXIT(use(), testing::ExitedWithCode(70), "weights: bytes that are in use are gone");
}

}  // namespace
}  // namespace penstock
