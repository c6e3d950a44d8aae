#include "base/machine.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "fakes/temp_dir.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

class CgroupTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  const TempDir dir_;
  const std::filesystem::path root_ = dir_.path();
};

TEST_F(CgroupTest, TakesTheTightestLimitOnTheWayUp) {
  Write("a/b/memory.max", "max\n");
  Write("a/memory.max", "1000000\n");
  Write("a/b/cpu.max", "150000 100000\n");
  Write("a/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupMemoryLimit(root_, "0::/a/b\n"), 1000000);
  EXPECT_DOUBLE_EQ(CgroupCpuLimit(root_, "0::/a/b\n"), 1.5);
}

TEST_F(CgroupTest, ReadsVersionOne) {
  Write("memory/x/memory.limit_in_bytes", "4096\n");
  Write("cpu/x/cpu.cfs_quota_us", "50000\n");
  Write("cpu/x/cpu.cfs_period_us", "100000\n");
  const std::string self = "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n";
  EXPECT_EQ(CgroupMemoryLimit(root_, self), 4096);
  EXPECT_DOUBLE_EQ(CgroupCpuLimit(root_, self), 0.5);
}

TEST_F(CgroupTest, SaysNoLimitWhereThereIsNone) {
  EXPECT_EQ(CgroupMemoryLimit(root_, "0::/\n"), std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(std::isinf(CgroupCpuLimit(root_, "")));
  EXPECT_GE(AllowedCpus(), 1);
  EXPECT_GT(AllowedMemory(), 0);
}

}  // namespace
}  // namespace penstock
