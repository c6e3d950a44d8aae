#include "base/mmap_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
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

// No death test of gtest's: its regular expressions are compiled by one library (oniguruma has a
// regcomp too) and run by another where sanitizers stand between.
TEST(MmapFile, InUseForGoodEndsTheProcess) {
  const TempDir dir;
  const std::string path = dir.Write("weights", std::string(kSomePages, 1));
  const auto file = MmapFile::Open(path);
  ASSERT_TRUE(file.ok());
  file->KeepForUse();
  std::filesystem::resize_file(path, 0);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    _exit(SumOf(*file) != 0 ? 1 : 2);
  }
  close(ends[1]);
  std::string said;  // which comes in pieces
  char piece[1000];
  for (ssize_t size; (size = read(ends[0], piece, sizeof piece)) > 0;)
    said.append(piece, static_cast<size_t>(size));
  close(ends[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 70);
  EXPECT_EQ(said.find("penstock: " + path), 0u) << said;
}

}  // namespace
}  // namespace penstock
