#include "base/mmap_file.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace penstock
