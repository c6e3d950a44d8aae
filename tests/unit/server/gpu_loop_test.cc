// What is told of GPUs while the driver answers, is late, and answers again.
#include "server/gpu_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace penstock {
namespace {

constexpr absl::Duration kForever = absl::Hours(1);

/// A driver that can be held.
struct HeldDriver {
  std::mutex mutex;
  std::condition_variable changed;
  bool held = false;
  int waiting = 0, reads = 0;

  void Hold(bool hold) {
    const std::lock_guard lock(mutex);
    held = hold;
    changed.notify_all();
  }
  void AwaitReader() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return waiting > 0; });
  }
  std::vector<GpuFigures> Read() {
    std::unique_lock lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [&] { return !held; });
    --waiting;
    ++reads;
    GpuFigures gpu;
    gpu.index = "0";
    gpu.up = true;
    gpu.samples = {{"penstock_gpu_temperature_celsius", "", static_cast<double>(reads)}};
    return {gpu};
  }
};

void NoFailure(const absl::Status& status) { ADD_FAILURE() << status; }

GpuLoop::Open Opens(const std::shared_ptr<HeldDriver>& driver) {
  return
      [driver]() -> absl::StatusOr<GpuLoop::Read> { return [driver] { return driver->Read(); }; };
}

TEST(GpuLoop, EveryAnswerIsReadAfterItsQuestion) {
  const auto driver = std::make_shared<HeldDriver>();
  GpuLoop loop(Opens(driver), NoFailure, kForever);
  for (int i = 1; i <= 50; ++i) {
    const std::vector<GpuFigures> gpus = loop.Get(kForever);
    ASSERT_EQ(gpus.size(), 1u);
    EXPECT_TRUE(gpus[0].up);
    EXPECT_EQ(gpus[0].samples[0].value, i);
  }
}

TEST(GpuLoop, ReadsWhereNobodyAsks) {
  const auto driver = std::make_shared<HeldDriver>();
  const GpuLoop loop(Opens(driver), NoFailure, absl::Milliseconds(1));
  for (int reads = 0; reads < 3; std::this_thread::yield()) {
    const std::lock_guard lock(driver->mutex);
    reads = driver->reads;
  }
}

TEST(GpuLoop, NobodyWaitsForALateDriverASecondTime) {
  const auto driver = std::make_shared<HeldDriver>();
  GpuLoop loop(Opens(driver), NoFailure, kForever);
  EXPECT_TRUE(loop.Get(kForever)[0].up);
  driver->Hold(true);
  const std::vector<GpuFigures> late = loop.Get(absl::Milliseconds(1));
  ASSERT_EQ(late.size(), 1u);
  EXPECT_FALSE(late[0].up);
  EXPECT_EQ(late[0].index, "0");
  EXPECT_TRUE(late[0].samples.empty());
  driver->AwaitReader();
  EXPECT_FALSE(loop.Get(kForever)[0].up);  // returns although nobody lets the driver go
  driver->Hold(false);
  while (!loop.Get(kForever)[0].up) std::this_thread::yield();
}

TEST(GpuLoop, ADriverThatNeverAnswersKeepsNobodyFromEnding) {
  const auto driver = std::make_shared<HeldDriver>();
  driver->Hold(true);
  {
    GpuLoop loop(Opens(driver), NoFailure, kForever);
    EXPECT_TRUE(loop.Get(absl::Milliseconds(1)).empty());
    driver->AwaitReader();
  }
  driver->Hold(false);  // its thread ends by itself
}

TEST(GpuLoop, WhatCannotBeOpenedIsToldOnceAndThenNothing) {
  std::atomic<int> told = 0;
  GpuLoop loop([]() -> absl::StatusOr<GpuLoop::Read> { return absl::NotFoundError("none"); },
               [&](const absl::Status& status) {
                 EXPECT_EQ(status.message(), "none");
                 ++told;
               },
               kForever);
  EXPECT_TRUE(loop.Get(kForever).empty());
  EXPECT_TRUE(loop.Get(kForever).empty());
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace penstock
