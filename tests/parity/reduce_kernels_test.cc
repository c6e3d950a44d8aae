// Sums over ranks on a GPU or under the emulator, the forms whose kernels wait for nothing; on a GPU
// also the one whose kernels wait for each other, a stream for each rank.
#include <memory>

#include "kernels/peer_launch.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class ReduceTest : public KernelRows {
 protected:
  /// Each rank's rows, and memory to exchange them; with room for whole quads.
  struct Memory {
    Memory(ReduceTest& test, int32_t size, int64_t count, bool two_shot) {
      const auto room = static_cast<size_t>(count + 3) / 4 * 4;
      for (int32_t r = 0; r < size; ++r) {
        std::vector<float> own = test.Random(count, Element::kFloat32);
        if (r == 0) expected = own;
        for (int64_t i = 0; r > 0 && i < count; ++i) expected[i] = expected[i] + own[i];
        rows.push_back(std::make_unique<DeviceArray<float>>(own));
        own.resize(room);
        inputs.push_back(std::make_unique<DeviceArray<float>>(own));
        sums.push_back(
            std::make_unique<DeviceArray<float>>(static_cast<size_t>(4 * ReducePart(count, size))));
        flags.push_back(
            std::make_unique<DeviceArray<uint32_t>>(std::vector<uint32_t>(kReduceFlags)));
      }
      for (int32_t r = 0; r < size; ++r) {
        PeerReduceArgs a;
        a.rows = rows[r]->data();
        a.count = count;
        a.rank = r;
        a.size = size;
        a.two_shot = two_shot;
        for (int32_t p = 0; p < size; ++p) {
          a.inputs[p] = inputs[p]->data();
          a.sums[p] = sums[p]->data();
          a.flags[p] = flags[p]->data();
        }
        args.push_back(a);
      }
    }
    std::vector<std::unique_ptr<DeviceArray<float>>> rows, inputs, sums;
    std::vector<std::unique_ptr<DeviceArray<uint32_t>>> flags;
    std::vector<PeerReduceArgs> args;
    std::vector<float> expected;
  };
};

constexpr int64_t kCounts[] = {1, 2, 3, 4, 5, 2047, 2048, 2049, 80'001};

TEST_F(ReduceTest, EachRankHasTheSumInTheOrderOfTheRanks) {
  for (const int32_t size : {2, 3, 4, 8}) {
    for (const int64_t count : kCounts) {
      for (const bool two_shot : {false, true}) {
        Memory m(*this, size, count, two_shot);
        for (const ReduceForm form : {ReduceForm::kSum, ReduceForm::kGather}) {
          if (form == ReduceForm::kGather && !two_shot) continue;
          for (PeerReduceArgs& a : m.args) {
            a.form = form;
            ASSERT_EQ(LaunchPeerReduce(a, nullptr), cudaSuccess) << DeviceFault();
          }
        }
        for (const auto& rows : m.rows) ASSERT_EQ(rows->Read(), m.expected) << size << " " << count;
      }
    }
  }
}

TEST_F(ReduceTest, WhatIsNoSumIsRefused) {
  Memory m(*this, 2, 8, false);
  PeerReduceArgs a = m.args[0];
  a.size = kMostRanks + 1;
  EXPECT_EQ(LaunchPeerReduce(a, nullptr), cudaErrorInvalidValue);
  a = m.args[0];
  a.rank = 2;
  EXPECT_EQ(LaunchPeerReduce(a, nullptr), cudaErrorInvalidValue);
  a = m.args[0];
  a.form = ReduceForm::kGather;  // of one shot there is nothing to fetch
  EXPECT_EQ(LaunchPeerReduce(a, nullptr), cudaErrorInvalidValue);
  a = m.args[0];
  a.count = 0;
  EXPECT_EQ(LaunchPeerReduce(a, nullptr), cudaSuccess);
}

#if !defined(PENSTOCK_EMULATE)  // where launches run one after the other
TEST_F(ReduceTest, KernelsThatWaitForEachOtherYieldTheSame) {
  uint32_t* abort = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&abort), sizeof *abort), cudaSuccess);
  for (const int32_t size : {2, 4}) {
    std::vector<cudaStream_t> streams(size);
    for (cudaStream_t& s : streams) ASSERT_EQ(cudaStreamCreateWithFlags(&s, 1), cudaSuccess);
    for (const int64_t count : kCounts) {
      for (const bool two_shot : {false, true}) {
        *abort = 0;
        Memory m(*this, size, count, two_shot);
        for (PeerReduceArgs& a : m.args) {
          a.form = ReduceForm::kWaiting;
          a.abort = abort;
          a.patience = 4'000'000'000;
          a.step = 1;
          ASSERT_EQ(LaunchPeerReduce(a, streams[a.rank]), cudaSuccess);
        }
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        EXPECT_EQ(*abort, 0);
        for (const auto& rows : m.rows) ASSERT_EQ(rows->Read(), m.expected) << size << " " << count;
      }
    }
    for (const cudaStream_t s : streams) cudaStreamDestroy(s);
  }
  cudaFreeHost(abort);
}
#endif

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
