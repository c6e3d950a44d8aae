#include "executor/tier_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "fakes/temp_dir.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(TierFile, GivesBackWhatWasWrittenAndHasNoName) {
  const TempDir dir;
  const auto file = TierFile::Make(dir.path(), 1 << 20);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string first(100'000, 'a');
  const std::string second(100'000, 'b');
  ASSERT_TRUE((*file)->Write(0, first.data(), 100'000).ok());
  ASSERT_TRUE((*file)->Write(100'000, second.data(), 100'000).ok());
  (*file)->WillRead(0, 200'000);
  std::string got(100'000, ' ');
  ASSERT_TRUE((*file)->Read(100'000, got.data(), 100'000).ok());
  EXPECT_EQ(got, second);
  ASSERT_TRUE((*file)->Read(0, got.data(), 100'000).ok());
  EXPECT_EQ(got, first);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(TierFile, SaysWhatADiskDoesWrong) {
  const TempDir dir;
  const auto file = TierFile::Make(dir.path(), 4096);
  ASSERT_TRUE(file.ok()) << file.status();
  char got[16];
  const absl::Status status = (*file)->Read(4090, got, 16);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(HasSubstr(dir.path()), HasSubstr("the file ended")));
}

TEST(TierFile, RefusesWhatIsNoFolderToWriteIn) {
  const TempDir dir;
  const std::string plain = dir.Write("plain", "x");
  for (const auto& [folder, why] :
       {std::pair{dir.path() + "/none", "No such file"}, std::pair{plain, "expected a folder"},
        std::pair{std::string("/proc"), "no file can be made there"}}) {
    const absl::Status status = TierFile::Make(folder, 4096).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), StartsWith("engine.kv_offload_path: " + folder));
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  }
}

TEST(TierFile, SaysHowMuchRoomIsMissing) {
  const TempDir dir;
  const int64_t bytes = int64_t{1} << 60;
  const absl::Status status = TierFile::Make(dir.path(), bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(StartsWith("engine.kv_offload_path: " + dir.path()),
                               HasSubstr(std::to_string(bytes)), HasSubstr("are free")));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace penstock
