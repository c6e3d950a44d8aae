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
  if (CpuHasAvxVnni()) {
    EXPECT_TRUE(SelfTest(AvxVnniKernels()));
  }
  if (CpuHasAvx512Vnni()) {
    EXPECT_TRUE(SelfTest(Avx512VnniKernels()));
  }
}

TEST(Kernels, Bf16PassesTheSelfTest) {
  if (!CpuHasAvx512Bf16()) GTEST_SKIP() << "this processor has no products of bfloat16";
  EXPECT_TRUE(SelfTest(Avx512Bf16Kernels()));
  CpuKernels broken = Avx512Bf16Kernels();
  broken.gemm_panel = [](const GemmPanelArgs& args) {
    GemmPanelArgs a = args;
    if (a.x_bf16 != nullptr) a.k -= 1;
    Avx512Bf16Kernels().gemm_panel(a);
  };
  EXPECT_FALSE(SelfTest(broken));
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

TEST(OpenBackend, RefusesWhatIsNotThere) {
  WorkerPool pool(1);
  const auto cpu = OpenBackend({"cpu", &pool});
  ASSERT_TRUE(cpu.ok());
  EXPECT_EQ(cpu->note, "");
  EXPECT_NE(cpu->kernels, "");
  EXPECT_TRUE(OpenBackend({"auto", &pool}).ok());
  EXPECT_EQ(OpenBackend({"cuda:99", &pool}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(OpenBackend({"cuda:x", &pool}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenBackend({"tpu", &pool}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenBackend({"cpu", &pool, "avx2"})->kernels, "avx2");
  EXPECT_EQ(OpenBackend({"cpu", &pool, "neon"}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace penstock
