// Where NVIDIA's library of products is looked for, and what is said where it is not there or is another; no GPU is
// needed for that.
#include "backend/cuda/cublaslt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "fakes/temp_dir.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(CublasLtPlaces, BeginWithTheFolderThatIsAskedFor) {
  setenv("PENSTOCK_CUDA_LIBDIR", "/nowhere", 1);
  const std::vector<std::string> asked = CublasLt::Places();
  EXPECT_THAT(asked, SizeIs(3));
  EXPECT_THAT(asked[0], AllOf(HasSubstr("/nowhere/libcublasLt.so."), EndsWith(asked[1])));
  unsetenv("PENSTOCK_CUDA_LIBDIR");
  EXPECT_THAT(CublasLt::Places(), SizeIs(2));
  setenv("PENSTOCK_CUDA_LIBDIR", "", 1);
  EXPECT_THAT(CublasLt::Places(), SizeIs(2));
}

TEST(CublasLtLoad, SaysWhereItWasLookedFor) {
  const absl::Status absent = CublasLt::Load({"/nowhere/a.so", "/nowhere/b.so"}).status();
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(
      absent.message(),
      "not found as /nowhere/a.so, /nowhere/b.so (PENSTOCK_CUDA_LIBDIR names a folder to look "
      "in)");
}

TEST(CublasLtLoad, AnotherLibraryInItsPlaceIsNamed) {
  const TempDir dir;
  setenv("PENSTOCK_CUDA_LIBDIR", dir.path().c_str(), 1);
  const std::vector<std::string> places = CublasLt::Places();
  std::filesystem::create_symlink(NVML_STAND_IN, places[0]);
  const absl::Status other = CublasLt::Load(places).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(other.message(), places[0] + " has no cublasLtCreate");
  unsetenv("PENSTOCK_CUDA_LIBDIR");
}

TEST(CublasLtLoad, WithoutItPromptsAreOursAndALineSaysSo) {
  EXPECT_EQ(WithoutCublasLt(absl::NotFoundError("not found as x")),
            "cuBLASLt: not found as x; prompts are multiplied by slower kernels of our own");
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
