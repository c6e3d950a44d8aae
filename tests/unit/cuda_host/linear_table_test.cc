#include "backend/cuda/linear_table.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "fakes/temp_dir.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

class LinearTableTest : public ::testing::Test {
 protected:
  const TempDir dir_;
  const std::string folder_ = dir_.path() + "/linear-table";  // not there
};

TEST(BucketOfRows, FewRowsAreOneAndOthersPowersOfTwo) {
  EXPECT_EQ(BucketOfRows(1), 0);
  EXPECT_EQ(BucketOfRows(64), 0);
  EXPECT_EQ(BucketOfRows(65), 128);
  EXPECT_EQ(BucketOfRows(128), 128);
  EXPECT_EQ(BucketOfRows(129), 256);
  EXPECT_EQ(BucketOfRows(100000), 8192);
}

TEST_F(LinearTableTest, KeepsChoicesBetweenRuns) {
  const LinearKey key{"bf16-codes4-128", 4096, 14336, 512};
  LinearChoice choice{LinearPath::kExpandLibrary, {1, 2, 0xffffffffffffffffu, 4, 5, 6, 7, 8}};
  {
    LinearTable table(folder_, "a GPU, library 1");
    EXPECT_FALSE(table.Find(key).has_value());
    ASSERT_TRUE(table.Set({"bf16", 8, 8, 128}, {LinearPath::kBlocks}).ok());
    ASSERT_TRUE(table.Set(key, choice).ok());
  }
  const LinearTable again(folder_, "a GPU, library 1");
  EXPECT_EQ(again.size(), 2u);
  ASSERT_TRUE(again.Find(key).has_value());
  EXPECT_EQ(again.Find(key)->path, choice.path);
  EXPECT_EQ(again.Find(key)->algorithm, choice.algorithm);
  EXPECT_FALSE(again.Find({key.form, key.n, key.k, 1024}).has_value());
}

TEST_F(LinearTableTest, AnotherMachinesChoicesAndBrokenFilesAreNone) {
  std::string file;
  {
    LinearTable table(folder_, "a GPU, library 1");
    ASSERT_TRUE(table.Set({"bf16", 8, 8, 128}, {LinearPath::kLibrary}).ok());
    file = table.file();
  }
  EXPECT_EQ(LinearTable(folder_, "a GPU, library 2").size(), 0u);
  std::ofstream(file, std::ios::app) << "bf16 8 8\n";
  EXPECT_EQ(LinearTable(folder_, "a GPU, library 1").size(), 0u);
  std::ofstream(file) << "something else\n";
  EXPECT_EQ(LinearTable(folder_, "a GPU, library 1").size(), 0u);
}

TEST_F(LinearTableTest, AFolderThatCannotBeWrittenIsAnErrorAndTheChoiceHolds) {
  std::ofstream(folder_) << "a file in its place";
  LinearTable table(folder_, "a GPU");
  const LinearKey key{"bf16", 8, 8, 128};
  EXPECT_FALSE(table.Set(key, {LinearPath::kLibrary}).ok());
  EXPECT_EQ(table.Find(key)->path, LinearPath::kLibrary);
}

}  // namespace
}  // namespace penstock
