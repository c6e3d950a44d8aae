#include "backend/thread_collective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <latch>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

void OnRanks(int32_t size, const std::function<void(int32_t)>& work) {
  std::vector<std::jthread> threads;
  for (int32_t r = 0; r < size; ++r) threads.emplace_back([&work, r] { work(r); });
}

Tensor RowsOf(std::vector<float>& values, int64_t rows) {
  const auto cols = static_cast<int64_t>(values.size()) / rows;
  return {values.data(), DType::kFloat32, rows, cols, cols};
}

/// Numbers whose sum depends on the order in which they are added.
float Number(int32_t rank, int64_t round, int64_t i) {
  const auto mixed = static_cast<uint32_t>((rank * 7919 + round * 104729 + i) * 2654435761u);
  return static_cast<float>(static_cast<int32_t>(mixed)) * (rank % 2 == 0 ? 1e-9f : 3.0f);
}

class ThreadCollectiveTest : public ::testing::TestWithParam<int32_t> {};

TEST_P(ThreadCollectiveTest, SumsInTheOrderOfTheRanksOnEachOfThem) {
  const int32_t size = GetParam();
  ThreadCollective collective(size, absl::Seconds(60));
  // Fewer numbers than ranks have lines, no multiple of a line, several runs.
  for (const auto& [rows, cols] : {std::pair{1, 3}, std::pair{5, 29}, std::pair{7, 1501}}) {
    constexpr int kRounds = 20;
    std::vector<std::vector<float>> got(size * kRounds);
    OnRanks(size, [&, rows = rows, cols = cols](int32_t rank) {
      for (int round = 0; round < kRounds; ++round) {
        std::vector<float>& own = got[round * size + rank];
        for (int64_t i = 0; i < rows * cols; ++i) own.push_back(Number(rank, round, i));
        EXPECT_TRUE(collective.AllReduceSum(rank, RowsOf(own, rows)).ok());
      }
    });
    for (int round = 0; round < kRounds; ++round) {
      std::vector<float> expected;
      for (int64_t i = 0; i < rows * cols; ++i) {
        float sum = Number(0, round, i);
        for (int32_t r = 1; r < size; ++r) sum += Number(r, round, i);
        expected.push_back(sum);
      }
      for (int32_t r = 0; r < size; ++r) EXPECT_EQ(got[round * size + r], expected);
    }
  }
}

TEST_P(ThreadCollectiveTest, NobodyPassesABarrierBeforeTheLastHasCome) {
  const int32_t size = GetParam();
  ThreadCollective collective(size, absl::Seconds(60));
  std::atomic<int> come{0};
  std::atomic<int> early{0};
  OnRanks(size, [&](int32_t rank) {
    for (int round = 1; round <= 200; ++round) {
      if (rank == 0 && round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      come.fetch_add(1);
      ASSERT_TRUE(collective.Barrier(rank).ok());
      if (come.load() < round * size) early.fetch_add(1);
    }
  });
  EXPECT_EQ(early.load(), 0);
}

TEST_P(ThreadCollectiveTest, ARankThatNeverComesIsNamedAndTheOthersLeave) {
  const int32_t size = GetParam();
  ThreadCollective collective(size, absl::Milliseconds(200));
  std::vector<absl::Status> left(size);
  std::latch come(size - 1);  // a thread that starts late would be named too
  OnRanks(size, [&](int32_t rank) {
    if (rank == size - 1) return;
    come.arrive_and_wait();
    left[rank] = collective.Barrier(rank);
  });
  for (int32_t r = 0; r < size - 1; ++r) {
    EXPECT_EQ(left[r].code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(left[r].message(), HasSubstr(absl::StrCat("rank ", size - 1, " of ", size)));
  }
  // It comes too late, and learns of it.
  EXPECT_EQ(collective.Barrier(size - 1).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(collective.ok());
}

TEST_P(ThreadCollectiveTest, WhoeverWaitsLeavesWithTheFirstReasonOfAnAbort) {
  const int32_t size = GetParam();
  ThreadCollective collective(size, absl::Seconds(600));
  std::vector<absl::Status> left(size);
  std::vector<float> values(size * 4);
  OnRanks(size, [&](int32_t rank) {
    if (rank == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // some sleep by now, or not
      collective.Abort(absl::InternalError("no memory"));
      collective.Abort(absl::InternalError("a later reason"));
      return;
    }
    Tensor own{values.data() + rank * 4, DType::kFloat32, 1, 4, 4};
    left[rank] = collective.AllReduceSum(rank, own);
  });
  for (int32_t r = 1; r < size; ++r) EXPECT_EQ(left[r].message(), "no memory");
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadCollectiveTest, ::testing::Values(2, 3, 4, 8));

}  // namespace
}  // namespace penstock
