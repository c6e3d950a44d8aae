// Kernels with one fault each: the emulator names the fault, the kernel and the line.
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "kernels/launch.cuh"
#include "parity/device_array.h"
#include "unit/emulator/planted.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Faults : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override { emulator::Configure({.seed = GetParam()}); }
  void TearDown() override { emulator::TakeFault(); }

  std::vector<float> Numbers(size_t n) {
    std::vector<float> out(n);
    for (size_t i = 0; i < n; ++i) out[i] = static_cast<float>(i);
    return out;
  }
  /// Each test reads and writes some of these.
  DeviceArray<float> in_{Numbers(1024)}, out_{1024};

  template <class... Parameters>
  std::string FaultOf(void (*kernel)(Parameters...),
                      std::type_identity_t<Parameters>... arguments) {
    const auto error =
        Launch({"planted", dim3(2), dim3(kThreads), 4096, nullptr}, kernel, arguments...);
    std::string fault = emulator::TakeFault();
    EXPECT_EQ(error == cudaSuccess, fault.empty());
    return fault;
  }
};

/// Where planted.cu says so.
std::string PlaceOf(const std::string& name) {
  std::ifstream file(PENSTOCK_SOURCE_DIR "/tests/unit/emulator/planted.cu");
  std::string text;
  for (int line = 1; std::getline(file, text); ++line) {
    if (text.ends_with("// line: " + name)) return "planted.cu:" + std::to_string(line);
  }
  return "no such line";
}

/// That the message begins with the kernel's name, and has these parts and the place.
template <class... Parts>
auto IsFault(const std::string& place, const Parts&... parts) {
  return AllOf(StartsWith("kernel planted, block ("), HasSubstr(PlaceOf(place)),
               HasSubstr(std::string(parts))...);
}

TEST_P(Faults, CorrectKernelHasNone) {
  EXPECT_EQ(FaultOf(Rotate, in_.data(), out_.data(), true), "");
  std::vector<float> got = out_.Read();
  for (int i = 0; i < 2 * kThreads; ++i) ASSERT_EQ(got[i], (i + 1) % kThreads);
}

TEST_P(Faults, MissingSyncthreads) {
  const std::string fault = FaultOf(Rotate, in_.data(), out_.data(), false);
  // Whoever comes second is caught: the one that reads too early, or the one that writes too late.
  EXPECT_THAT(fault, AnyOf(HasSubstr("reads 4 bytes of shared memory that nothing was written to"),
                           HasSubstr("without a barrier in between")));
  EXPECT_THAT(fault,
              AnyOf(HasSubstr(PlaceOf("rotate reads")), HasSubstr(PlaceOf("rotate writes"))));
}

TEST_P(Faults, MissingSyncthreadsBeforeSharedMemoryIsUsedAgain) {
  EXPECT_THAT(FaultOf(Reuse, in_.data(), out_.data()), HasSubstr("without a barrier in between"));
}

TEST_P(Faults, MissingSyncwarp) {
  EXPECT_EQ(FaultOf(LaneToLane, in_.data(), out_.data(), true), "");
  EXPECT_NE(FaultOf(LaneToLane, in_.data(), out_.data(), false), "");
}

TEST_P(Faults, ReadBeforePdlWait) {
  DeviceArray<float> between(1024);
  EXPECT_EQ(FaultOf(Rotate, in_.data(), between.data(), true), "");
  EXPECT_EQ(FaultOf(Consume, between.data(), out_.data(), true), "");
  // Immutable data may be read before.
  EXPECT_EQ(FaultOf(Consume, in_.data(), out_.data(), false), "");
  EXPECT_EQ(FaultOf(Rotate, in_.data(), between.data(), true), "");
  EXPECT_THAT(
      FaultOf(Consume, between.data(), out_.data(), false),
      IsFault("consume", "reads 4 bytes that the kernel before, planted, wrote, before PdlWait"));
}

TEST_P(Faults, WaitOnTheWrongGroup) {
  EXPECT_EQ(FaultOf(Stages, in_.data(), out_.data(), false), "");
  const std::vector<float> got = out_.Read();
  for (int t = 0; t < kThreads; ++t) {
    const float one = 4 * t + 4 == 512 ? 0 : 4 * t + 4;
    ASSERT_EQ(got[t], one + (t % 2 == 0 ? 512 + 4 * t + 3 : 0));
  }
  EXPECT_THAT(FaultOf(Stages, in_.data(), out_.data(), true),
              IsFault("stage", "reads 4 bytes of shared memory that a cp.async has in flight"));
}

TEST_P(Faults, CopyThatNobodyWaitsFor) {
  EXPECT_THAT(FaultOf(EndsWithACopyInFlight, in_.data()),
              IsFault("abandoned", "ends while its cp.async is in flight"));
}

TEST_P(Faults, GlobalIndexOutOfBounds) {
  EXPECT_EQ(FaultOf(ReadsGlobal, in_.data(), out_.data(), 1023), "");
  EXPECT_THAT(FaultOf(ReadsGlobal, in_.data(), out_.data(), 1024),
              IsFault("global read",
                      "thread 5 reads 4 bytes out of bounds, 4096 bytes from the begin of a "
                      "buffer of 4096 bytes"));
  EXPECT_THAT(FaultOf(ReadsGlobal, in_.data(), out_.data(), -1),
              IsFault("global read", "4 bytes before a buffer"));
  EXPECT_THAT(FaultOf(ReadsGlobal, in_.data(), out_.data(), int64_t{1} << 40),
              IsFault("global read", "out of bounds"));
  EXPECT_EQ(FaultOf(WritesGlobal, out_.data(), 0), "");
  EXPECT_THAT(FaultOf(WritesGlobal, out_.data(), 1024),
              IsFault("global write", "writes 4 bytes out of bounds"));
  const float on_the_host[1] = {};
  EXPECT_THAT(FaultOf(ReadsGlobal, on_the_host, out_.data(), 0), HasSubstr("out of bounds"));
}

TEST_P(Faults, SharedIndexOutOfBounds) {
  EXPECT_EQ(FaultOf(IndexesShared, out_.data(), kThreads - 1), "");
  for (const int index : {kThreads, -1, kThreads + 17}) {
    EXPECT_THAT(FaultOf(IndexesShared, out_.data(), index),
                IsFault("shared", "reads 4 bytes out of bounds of a shared array"));
  }
  EXPECT_NE(FaultOf(IndexesShared, out_.data(), 1 << 20), "");
  EXPECT_EQ(FaultOf(IndexesDynamicShared, out_.data(), 1023), "");
  EXPECT_THAT(FaultOf(IndexesDynamicShared, out_.data(), 1024), HasSubstr("out of bounds"));
}

TEST_P(Faults, MisalignedVector) {
  EXPECT_EQ(FaultOf(LoadsVectors, in_.data(), out_.data()), "");
  EXPECT_EQ(out_.Read()[4], 7);
  EXPECT_THAT(
      FaultOf(LoadsVectors, in_.data() + 2, out_.data()),
      IsFault("vector", "reads 16 bytes at a misaligned address (8 behind a multiple of 16)"));
  EXPECT_THAT(FaultOf(LoadsVectors, in_.data(), out_.data() + 1),
              HasSubstr("writes 16 bytes at a misaligned address"));
}

TEST_P(Faults, MisalignedCopyAndMatrix) {
  EXPECT_THAT(FaultOf(CopiesMisaligned, in_.data()), IsFault("copy", "misaligned"));
  EXPECT_THAT(FaultOf(LoadsMatrixMisaligned), IsFault("matrix", "misaligned"));
}

TEST_P(Faults, DivergentBarriers) {
  const std::string fault = FaultOf(DivergentBarriers);
  for (const char* line : {"barrier of some", "barrier of others"}) {
    EXPECT_THAT(fault, IsFault(line, "is at another barrier", "a deadlock"));
  }
  EXPECT_THAT(FaultOf(BarrierOfSome),
              IsFault("lonely barrier", "deadlocks: 40 threads wait in __syncthreads at ",
                      "88 have ended"));
}

TEST_P(Faults, LanesThatDoNotMeet) {
  EXPECT_THAT(FaultOf(DivergentShuffle, out_.data()),
              IsFault("shuffle", "deadlocks", "64 threads wait in __shfl_xor_sync"));
  EXPECT_THAT(FaultOf(ShuffleAgainstBarrier),
              AnyOf(HasSubstr("is at another barrier"), HasSubstr("deadlocks")));
  EXPECT_THAT(FaultOf(MaskWithoutOneself), HasSubstr("a mask that lacks its own lane"));
}

TEST_P(Faults, BlocksThatDependOnEachOtherAndFreshMemory) {
  EXPECT_THAT(FaultOf(BlocksMeetInMemory, out_.data()),
              HasSubstr("of global memory that another block of the grid wrote"));
  DeviceArray<float> fresh(kThreads);
  EXPECT_THAT(FaultOf(ReadsWhatNobodyWrote, fresh.data()),
              HasSubstr("of global memory that nothing was written to"));
}

TEST_P(Faults, MoreSharedMemoryThanABlockHas) {
  EXPECT_THAT(FaultOf(TakesTooMuch), HasSubstr("more shared memory than a block's 101376"));
}

TEST_P(Faults, WriteBeforePdlWaitAndNoPdlWait) {
  EXPECT_THAT(FaultOf(WritesBeforeTheWait, out_.data()),
              IsFault("early write", "writes 4 bytes of global memory before PdlWait"));
  EXPECT_THAT(FaultOf(NeverWaits), HasSubstr("ends without PdlWait"));
}

/// Nothing runs after a fault until it is taken.
TEST_P(Faults, AreSticky) {
  EXPECT_EQ(Launch({"planted", dim3(1), dim3(kThreads), 0, nullptr}, BarrierOfSome),
            cudaErrorLaunchFailure);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_EQ(
      Launch({"other", dim3(2), dim3(kThreads), 0, nullptr}, Rotate, in_.data(), out_.data(), true),
      cudaErrorLaunchFailure);
  EXPECT_THAT(emulator::TakeFault(), HasSubstr("kernel planted"));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Faults, testing::Values(1, 2, 3, 20261128));

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
