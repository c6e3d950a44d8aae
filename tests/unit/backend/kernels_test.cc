#include "backend/cpu/kernels.h"

#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "backend/cpu/choose_kernels.h"
#include "backend/make_backend.h"
#include "base/strings.h"

namespace penstock {
namespace {

class KernelInstance : public testing::TestWithParam<std::string_view> {
 protected:
  /// Null: this processor cannot run it, or it is not in this build.
  static const CpuKernels* Find(std::string_view name) {
    for (const CpuKernels* kernels : RunnableKernels()) {
      if (kernels->name == name) return kernels;
    }
    return nullptr;
  }
};

TEST_P(KernelInstance, PassesTheSelfTest) {
  const CpuKernels* kernels = Find(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << "this processor cannot run " << GetParam();
  EXPECT_TRUE(SelfTest(*kernels));
}

INSTANTIATE_TEST_SUITE_P(Kernels, KernelInstance, testing::ValuesIn(KernelNames()),
                         [](const auto& info) {
                           return absl::StrReplaceAll(ToAbsl(info.param), {{"-", "_"}});
                         });

TEST_F(KernelInstance, SelfTestFindsAWrongProductOfBfloat16) {
  static const CpuKernels* right = Find("avx512-bf16");
  if (right == nullptr) GTEST_SKIP() << "this processor has no products of bfloat16";
  CpuKernels broken = *right;
  broken.gemm_panel = [](const GemmPanelArgs& args) {
    GemmPanelArgs a = args;
    if (a.x_bf16 != nullptr) a.k -= 1;
    right->gemm_panel(a);
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
