// Ranks that share a model's layers on the CUDA backend, as logical ranks of the emulated device: the
// reference logits, what one rank's fault is to the others, and what a plan counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <latch>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/make_backend.h"
#include "base/half.h"
#include "executor/plan_memory.h"
#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"
#include "parity/short_golden.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr char kEmulated[] = "cuda-emulated";

#define SKIP_WITHOUT_EMULATOR()                                                  \
  if (WorkerPool one(1); !OpenBackend({.device = kEmulated, .pool = &one}).ok()) \
  GTEST_SKIP() << "this build has no emulated device"

/// Ranks, a model in the shared data, and a prompt of it that has 17 positions.
class EmulatedRanksGolden
    : public ::testing::TestWithParam<std::tuple<int32_t, std::string, size_t>> {};

TEST_P(EmulatedRanksGolden, SomeWaysMeetTheReference) {
  const auto& [ranks, model, prompt] = GetParam();
  LoadOptions load;
  load.model_dir = std::string(PENSTOCK_SHARED_DATA) + "/models/" + model;
  if (!std::filesystem::exists(load.model_dir)) GTEST_SKIP() << load.model_dir << " is not there";
  load.device = kEmulated;
  load.tensor_parallel = ranks;
  ExpectGoldenOf(load, {{prompt, 17, prompt == 2 ? 2u : 0u, {"chunk7", "batched"}}},
                 DType::kBFloat16);
}

// By what a rank does otherwise: plain, a KV head for several, tied to the head, biases and positions,
// norms behind a sum, both halves of a layer at once, mixtures with and without shared experts, codes
// and 8-bit integers.
INSTANTIATE_TEST_SUITE_P(
    Models, EmulatedRanksGolden,
    ::testing::Values(std::tuple(2, "families/llama", 2), std::tuple(4, "families/llama", 2),
                      std::tuple(2, "families/qwen3", 2), std::tuple(2, "families/gemma3", 2),
                      std::tuple(2, "families/gpt2", 2), std::tuple(2, "families/cohere2", 2),
                      std::tuple(2, "families/qwen3_moe", 2),
                      std::tuple(2, "families/qwen2_moe", 2), std::tuple(4, "families/mixtral", 2),
                      std::tuple(2, "families/gpt_oss", 2), std::tuple(2, "quantized/awq-4bit", 1),
                      std::tuple(2, "quantized/ct-w8a8-int8", 1),
                      std::tuple(4, "quantized/ct-w8a8-int8", 1)),
    [](const auto& info) {
      const std::string& model = std::get<1>(info.param);
      std::string name = model.substr(model.find('/') + 1);
      std::replace(name.begin(), name.end(), '-', '_');
      return absl::StrCat(name, "_tp", std::get<0>(info.param));
    });

TEST(EmulatedRanksDemo, AreGreedyAsTheReferenceIs) {
  LoadOptions load;
  load.model_dir = std::string(PENSTOCK_SOURCE_DIR) + "/models/demo";
  load.device = kEmulated;
  for (const int32_t ranks : {2, 4}) {
    load.tensor_parallel = ranks;
    ExpectGoldenOf(load, {{0, 8, 0, {"chunk7"}}}, DType::kBFloat16);
  }
}

/// Sums of a collective's ranks, each in a thread of its own.
class EmulatedCollective : public ::testing::Test {
 protected:
  void Open(int32_t size, absl::Duration patience = absl::Seconds(60)) {
    std::vector<Device*> devices;
    for (int32_t r = 0; r < size; ++r) {
      auto opened = OpenBackend({.device = kEmulated, .pool = &pool_});
      ASSERT_TRUE(opened.ok()) << opened.status();
      opened_.push_back(*std::move(opened));
      devices.push_back(opened_.back().device.get());
    }
    auto made = MakeCollective(devices, patience);
    ASSERT_TRUE(made.ok()) << made.status();
    collective_ = *std::move(made);
  }
  Device& device(int32_t rank) { return *opened_[rank].device; }
  void OnRanks(const std::function<void(int32_t rank)>& work) {
    std::vector<std::thread> threads;
    for (int32_t r = 0; r < collective_->size(); ++r) threads.emplace_back(work, r);
    for (std::thread& thread : threads) thread.join();
  }

  WorkerPool pool_{1};
  std::vector<OpenedBackend> opened_;
  std::unique_ptr<Collective> collective_;
};

TEST_F(EmulatedCollective, SumsAreThoseOfTheCpusRanks) {
  SKIP_WITHOUT_EMULATOR();
  for (const int32_t size : {2, 3, 4}) {
    collective_.reset();
    opened_.clear();
    Open(size);
    // One shot, two shots, several pieces; the memory for exchange is used again and again.
    for (const int64_t rows : {1, 1, 3, 140, 1100, 1, 140}) {
      const Tensor shape{nullptr, DType::kFloat32, rows, 1001, 1001};
      const auto count = static_cast<size_t>(rows * shape.cols);
      const auto value = [&](int32_t rank, size_t i) {
        return static_cast<float>((i * 2654435761u + 977u * rank + rows) % 100003) / 313.0f;
      };
      std::vector<float> expected(count);
      for (size_t i = 0; i < count; ++i) {
        expected[i] = value(0, i);
        for (int32_t r = 1; r < size; ++r) expected[i] += value(r, i);
      }
      std::vector<std::vector<float>> got(size, std::vector<float>(count));
      OnRanks([&](int32_t rank) {
        for (size_t i = 0; i < count; ++i) got[rank][i] = value(rank, i);
        auto buffer = device(rank).Allocate(count * sizeof(float));
        ASSERT_TRUE(buffer.ok()) << buffer.status();
        Tensor own = shape;
        own.data = buffer->data();
        device(rank).CopyToDevice(own.data, got[rank].data(), count * sizeof(float));
        const absl::Status summed = collective_->AllReduceSum(rank, own);
        EXPECT_TRUE(summed.ok()) << summed;
        device(rank).CopyToHost(got[rank].data(), own.data, count * sizeof(float));
      });
      for (int32_t r = 0; r < size; ++r) ASSERT_TRUE(got[r] == expected) << size << ", " << rows;
    }
  }
}

TEST_F(EmulatedCollective, ARanksFaultIsThatOfAllAndNamesIt) {
  SKIP_WITHOUT_EMULATOR();
  Open(2, absl::Hours(1));  // nobody waits so long
  std::vector<absl::Status> ended(2);
  OnRanks([&](int32_t rank) {
    auto buffer = device(rank).Allocate(400);
    const Tensor own{buffer->data(), DType::kFloat32, 1, 100, 100};
    // float32 activations are none of a GPU's: there is no kernel for mixtures of them.
    if (rank == 1) {
      int32_t id = 0;
      device(rank).ops().Experts({.x = own, .ids = &id, .num_slots = 1, .y = own});
    }
    ended[rank] = collective_->AllReduceSum(rank, own);
  });
  EXPECT_EQ(ended[0], ended[1]);
  EXPECT_THAT(ended[0].message(), HasSubstr("rank 1 of 2: device cuda-emulated has no kernel"));
  EXPECT_EQ(collective_->Barrier(0), ended[0]);
}

class EmulatedRankFault : public ::testing::Test {
 protected:
  absl::Status RunOneStep(std::function<void(int32_t)> before_pass, absl::Duration patience) {
    model_ = LoadTinyModel(&pool_, TinyConfig(), 2, kEmulated);
    RunnerOptions options = TinyRunnerOptions();
    options.dtype = options.kv_dtype = DType::kBFloat16;
    options.rank_patience = patience;
    options.before_pass = std::move(before_pass);
    auto runner = ModelRunner::Make(model_.get(), options);
    CHECK(runner.ok());
    runner_ = *std::move(runner);
    RunnerDriver driver(runner_.get());
    DrivenSequence s = driver.Begin(TinyPrompt(5, 1), false);
    return driver.Run(s, 5, 2);
  }

  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<ModelRunner> runner_;
};

TEST_F(EmulatedRankFault, NoFaultIsAToken) {
  SKIP_WITHOUT_EMULATOR();
  const absl::Status ended = RunOneStep(nullptr, absl::Seconds(60));
  EXPECT_TRUE(ended.ok()) << ended;
}

TEST_F(EmulatedRankFault, ARankThatThrowsIsADeviceFaultWithItsName) {
  SKIP_WITHOUT_EMULATOR();
  const absl::Status ended = RunOneStep(
      [](int32_t rank) {
        if (rank == 1) throw std::runtime_error("the sky fell");
      },
      absl::Hours(1));
  EXPECT_EQ(ended.message(), "device fault: rank 1 of 2 has died: the sky fell");
}

TEST_F(EmulatedRankFault, ARankThatStallsIsADeviceFaultWithItsName) {
  SKIP_WITHOUT_EMULATOR();
  const auto never = std::make_shared<std::latch>(1);
  const absl::Status ended = RunOneStep(
      [never](int32_t rank) {
        if (rank == 1) never->wait();
      },
      absl::Milliseconds(20));  // the emulator's ranks have thirty times as long
  EXPECT_THAT(ended.message(), HasSubstr("device fault: rank 1 of 2 has stalled"));
  EXPECT_TRUE(runner_->abandoned());
  // What the thread may yet use stays, as the executor leaves it.
  static_cast<void>(runner_.release());
  static_cast<void>(model_.release());
}

TEST(EmulatedRanksPlan, CountsWhatRanksExchangeThrough) {
  WorkerPool pool(2);
  TempDir dir;
  dir.Write("config.json", TinyConfig());
  LoadOptions load;
  load.model_dir = dir.path();
  load.weights = "formula";
  load.device = kEmulated;
  load.pool = &pool;
  const auto options = [](LoadedModel&, LoadedModel*) -> absl::StatusOr<RunnerOptions> {
    RunnerOptions runner = TinyRunnerOptions();
    runner.dtype = runner.kv_dtype = DType::kBFloat16;
    return runner;
  };
  const auto one = PlanMemory(load, nullptr, options);
  load.tensor_parallel = 2;
  const auto two = PlanMemory(load, nullptr, options);
  ASSERT_TRUE(one.ok() && two.ok()) << one.status() << two.status();
  EXPECT_EQ(two->ranks, 2);
  EXPECT_EQ(two->device, kEmulated);
  EXPECT_EQ(two->kv_bytes, one->kv_bytes);
  EXPECT_GE(two->weight_bytes, one->weight_bytes);  // norms are there twice, tiles are filled up
  EXPECT_LE(two->weight_bytes, one->weight_bytes * 3 / 2);
  const auto exchanged = static_cast<int64_t>(2 * PeerCollectiveBytes(2));
  EXPECT_GE(two->activation_bytes, one->activation_bytes + exchanged);
  EXPECT_LE(two->activation_bytes, 2 * one->activation_bytes + exchanged + (1 << 20));
  // What is planned is what is held.
  if (WorkerPool own(1); !OpenBackend({.device = kEmulated, .pool = &own}).ok()) return;
  const int64_t before = HeldBytes();
  const auto model = LoadTinyModel(&pool, TinyConfig(), 2, kEmulated);
  RunnerOptions runner = TinyRunnerOptions();
  runner.dtype = runner.kv_dtype = DType::kBFloat16;
  const auto made = ModelRunner::Make(model.get(), runner);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(HeldBytes() - before, two->at_start());
}

TEST(RanksOfGpus, AreOneEachOrShareTheOneThatIsNamed) {
  EXPECT_EQ(DeviceOfRank("cuda", 0), "cuda:0");
  EXPECT_EQ(DeviceOfRank("cuda", 3), "cuda:3");
  EXPECT_EQ(DeviceOfRank("cuda:1", 3), "cuda:1");
  EXPECT_EQ(DeviceOfRank(kEmulated, 3), kEmulated);
  EXPECT_EQ(DeviceOfRank("cpu", 3), "cpu");
}

}  // namespace
}  // namespace penstock
