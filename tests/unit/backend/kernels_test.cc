#include "backend/cpu/kernels.h"

#include <gtest/gtest.h>

#include "backend/make_backend.h"
#include "base/cpu_features.h"

namespace penstock {
namespace {

TEST(Kernels, Avx2PassesTheSelfTest) { EXPECT_TRUE(SelfTest(Avx2Kernels())); }

TEST(Kernels, Avx512PassesTheSelfTest) {
  if (!CpuHasAvx512()) GTEST_SKIP() << "this processor has no AVX-512";
  EXPECT_TRUE(SelfTest(Avx512Kernels()));
}

TEST(Kernels, VnniPassesTheSelfTest) {
  if (!CpuHasAvxVnni() && !CpuHasAvx512Vnni()) GTEST_SKIP() << "this processor has no VNNI";
  if (CpuHasAvxVnni()) EXPECT_TRUE(SelfTest(AvxVnniKernels()));
  if (CpuHasAvx512Vnni()) EXPECT_TRUE(SelfTest(Avx512VnniKernels()));
}

TEST(Kernels, SelfTestFindsAWrongKernel) {
  CpuKernels broken = Avx2Kernels();
  broken.norm_row = [](const NormRowArgs& a) {
    for (int64_t i = 0; i < a.n; ++i) static_cast<float*>(a.y)[i] = 1.0f;
  };
  EXPECT_FALSE(SelfTest(broken));
  broken = Avx2Kernels();
  broken.attention_tile = [](const AttentionTileArgs&) {};
  EXPECT_FALSE(SelfTest(broken));
  broken = Avx2Kernels();
  broken.rope_row = [](const RopeRowArgs&) {};
  EXPECT_FALSE(SelfTest(broken));
  broken = Avx2Kernels();
  broken.convert_row = [](DType, const void*, bool, void*, int64_t, float, bool) {};
  EXPECT_FALSE(SelfTest(broken));
  broken = Avx2Kernels();
  broken.delta_step = [](const DeltaStepArgs&) {};
  EXPECT_FALSE(SelfTest(broken));
  broken = Avx2Kernels();
  broken.gemm_panel = [](const GemmPanelArgs&) {};
  EXPECT_FALSE(SelfTest(broken));
  broken.gemm_panel = [](const GemmPanelArgs& args) {  // forgets the offsets
    GemmPanelArgs a = args;
    a.codes.offsets = nullptr;
    Avx2Kernels().gemm_panel(a);
  };
  EXPECT_FALSE(SelfTest(broken));
}

TEST(Kernels, ChoosesWithoutANoteWhereAllIsWell) {
  std::string note;
  EXPECT_NE(ChooseKernels(note).name, nullptr);
  EXPECT_EQ(note, "");
}

TEST(MakeBackend, RefusesWhatIsNotThere) {
  WorkerPool pool(1);
  std::string note;
  EXPECT_TRUE(MakeBackend("cpu", &pool, note).ok());
  EXPECT_TRUE(MakeBackend("auto", &pool, note).ok());
  EXPECT_EQ(MakeBackend("cuda:0", &pool, note).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(MakeBackend("tpu", &pool, note).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
