// Sums over ranks whose kernels wait for each other, under the emulator: the sum in the order of the
// ranks on all of them, however far one runs ahead; and nobody waits for ever for one that is absent.
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "kernels/launch.cuh"
#include "parity/device_array.h"
#include "test_seed.h"
#include "unit/emulator/planted.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kSteps = 7;
constexpr uint32_t kFirstStep = UINT32_MAX - 2;  // they go on with 0
constexpr int64_t kPatience = 1'000'000;         // a clock's thousand looks

/// Memory of ranks that sum kSteps times `count` numbers.
class Ranks {
 public:
  Ranks(int size, int64_t count, bool two_shot, uint64_t seed)
      : size_(size), count_(count), room_((count + 3) / 4 * 4) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < kSteps * size; ++i) {
      values_.emplace_back(room_);
      for (float& v : values_.back()) v = std::normal_distribution<float>()(random);
      rows_.push_back(std::make_unique<DeviceArray<float>>(values_.back()));
    }
    const std::vector<float> zeros(2 * 4 * (room_ + 4 * size));
    for (int r = 0; r < size; ++r) {
      inputs_.push_back(std::make_unique<DeviceArray<float>>(zeros));
      sums_.push_back(std::make_unique<DeviceArray<float>>(zeros));
      flags_.push_back(std::make_unique<DeviceArray<uint32_t>>(
          std::vector<uint32_t>(kReduceFlags, kFirstStep - 1)));
    }
    for (int step = 0; step < kSteps; ++step) {
      for (int r = 0; r < size; ++r) args_.push_back(ArgsOf(step, r, two_shot));
    }
  }

  void Abort() { abort_ = std::make_unique<DeviceArray<uint32_t>>(std::vector<uint32_t>{99}); }
  std::string Run(int blocks, int absent = -1) {
    for (PeerReduceArgs& a : args_) a.abort = abort_->data();
    DeviceArray<PeerReduceArgs> args(args_);
    const auto error = Launch({"ranks", dim3(1), dim3(size_ * kRankThreads), 0, nullptr},
                              SumsOverRanks, args.data(), size_, kSteps, blocks, absent);
    std::string fault = emulator::TakeFault();
    EXPECT_EQ(error == cudaSuccess, fault.empty());
    return fault;
  }
  uint32_t aborted() { return abort_->Read()[0]; }
  std::vector<float> Got(int step, int rank) {
    std::vector<float> got = rows_[step * size_ + rank]->Read();
    got.resize(count_);
    return got;
  }
  std::vector<float> Expected(int step) const {
    std::vector<float> sum(values_[step * size_].begin(), values_[step * size_].begin() + count_);
    for (int r = 1; r < size_; ++r) {
      for (int64_t i = 0; i < count_; ++i) sum[i] += values_[step * size_ + r][i];
    }
    return sum;
  }

 private:
  PeerReduceArgs ArgsOf(int step, int rank, bool two_shot) {
    PeerReduceArgs a;
    a.rows = rows_[step * size_ + rank]->data();
    a.count = count_;
    const int64_t half = (step + 1) % 2;
    for (int r = 0; r < size_; ++r) {
      a.inputs[r] = inputs_[r]->data() + half * room_;
      a.sums[r] = sums_[r]->data() + half * 4 * ReducePart(count_, size_);
      a.flags[r] = flags_[r]->data();
    }
    a.patience = kPatience;
    a.step = kFirstStep + static_cast<uint32_t>(step);
    a.rank = rank;
    a.size = size_;
    a.two_shot = two_shot;
    return a;
  }

  int size_;
  int64_t count_;
  int64_t room_;
  std::vector<std::vector<float>> values_;
  std::vector<std::unique_ptr<DeviceArray<float>>> rows_, inputs_, sums_;
  std::vector<std::unique_ptr<DeviceArray<uint32_t>>> flags_;
  std::unique_ptr<DeviceArray<uint32_t>> abort_ =
      std::make_unique<DeviceArray<uint32_t>>(std::vector<uint32_t>{0});
  std::vector<PeerReduceArgs> args_;
};

class WaitingRanks : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(WaitingRanks, AllHaveTheSumInTheOrderOfTheRanks) {
  const auto [size, two_shot] = GetParam();
  const uint64_t seed = TestSeed();
  for (const int64_t count : {1, 3, 4, 63, 64, 255, 257, 1030}) {
    for (const int blocks : {1, 2}) {
      emulator::Configure({.seed = seed + static_cast<uint64_t>(count)});
      Ranks ranks(size, count, two_shot, seed);
      ASSERT_EQ(ranks.Run(blocks), "") << count;
      EXPECT_EQ(ranks.aborted(), 0);
      for (int step = 0; step < kSteps; ++step) {
        for (int r = 0; r < size; ++r) {
          ASSERT_EQ(ranks.Got(step, r), ranks.Expected(step)) << count << ", step " << step;
        }
      }
    }
  }
}

TEST_P(WaitingRanks, LeaveWhereOneDoesNotComeAndSayWho) {
  const auto [size, two_shot] = GetParam();
  Ranks ranks(size, 300, two_shot, TestSeed());
  EXPECT_EQ(ranks.Run(2, size - 1), "");
  EXPECT_EQ(ranks.aborted(), size);  // the last rank, plus 1
  EXPECT_EQ(ranks.Got(kSteps - 2, 0), ranks.Expected(kSteps - 2));
  EXPECT_NE(ranks.Got(kSteps - 1, 0), ranks.Expected(kSteps - 1));
}

TEST_P(WaitingRanks, LeaveWhereTheHostSaysSo) {
  const auto [size, two_shot] = GetParam();
  Ranks ranks(size, 300, two_shot, TestSeed());
  ranks.Abort();
  EXPECT_EQ(ranks.Run(2, 0), "");
  EXPECT_EQ(ranks.aborted(), 99);  // as it was: nobody has waited long
}

INSTANTIATE_TEST_SUITE_P(Sizes, WaitingRanks,
                         testing::Combine(testing::Values(2, 3, 4, 8), testing::Bool()),
                         [](const auto& info) {
                           return std::to_string(std::get<0>(info.param)) + "_ranks_in_" +
                                  (std::get<1>(info.param) ? "two_shots" : "one_shot");
                         });

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
