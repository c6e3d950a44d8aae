// Seeded arrivals, cancels and preemptions on the real engine over the real executor: the demo model
// on the CPU and on the emulated GPU. Whatever is in the batch beside it, shared
// from the prefix cache or computed again after a preemption, a request's tokens are those that the
// same device draws for it alone.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include "base/sanitizers.h"
#include "engine/engine_loop.h"
#include "executor/local_executor.h"
#include "fakes/fake_executor.h"
#include "fakes/temp_dir.h"
#include "gtest/gtest.h"
#include "test_seed.h"

namespace penstock {
namespace {

constexpr int32_t kDeviceBlock = 16;

struct DeviceScenario {
  const char* name;
  const char* device;
  int32_t num_requests;
  int32_t depth;
  bool drafts;
  DType kv_dtype = DType::kBFloat16;
  bool tier = false;  // a second one of the prefix cache
  bool disk = false;  // where it lies
};

/// What a request asks for; equal kinds have equal answers.
struct RequestKind {
  int32_t prefix = 0;  // which of the long beginnings
  int32_t rest = 0;    // how many tokens after it
  bool drawn = false;  // by a seed, else greedy
  auto operator<=>(const RequestKind&) const = default;
};

GenerateRequest RequestOf(const RequestKind& kind) {
  GenerateRequest request;
  std::mt19937 words(kind.prefix);
  request.prompt.resize(kDeviceBlock + 2);
  for (TokenId& id : request.prompt) id = static_cast<TokenId>(3 + words() % 4000);
  // Said again and again: what an n-gram speculator finds.
  for (int32_t i = 0; i < kind.rest; ++i)
    request.prompt.push_back(static_cast<TokenId>(100 + (kind.prefix + i) % 3));
  request.max_tokens = 4;
  request.sampling.temperature = kind.drawn ? 0.9f : 0.0f;
  request.sampling.top_p = kind.drawn ? 0.8f : 1.0f;
  request.sampling.repetition_penalty = kind.drawn ? 1.1f : 1.0f;
  request.sampling.seed = 1234 + kind.prefix;
  request.sampling.num_logprobs = -1;
  return request;
}

class DeviceSimulation : public ::testing::TestWithParam<DeviceScenario> {
 protected:
  /// Null where the build has no such device.
  std::unique_ptr<EngineLoop> MakeEngine(bool alone, int64_t kv_bytes) {
    ExecutorOptions options;
    options.load.model_dir = std::string(PENSTOCK_SOURCE_DIR) + "/models/demo";
    options.load.device = GetParam().device;
    options.load.pool = &pool_;
    options.runner.dtype = DType::kBFloat16;
    options.runner.kv_dtype = GetParam().kv_dtype;
    options.runner.kv_bytes = kv_bytes;
    options.runner.block_size = kDeviceBlock;
    options.runner.num_slots = 3;
    options.runner.max_step_tokens = 24;
    options.runner.max_len = 48;
    if (!alone && GetParam().tier)
      options.runner.tier = {24 * BlockBytes(), GetParam().disk ? dir_.path() : ""};
    options.runner.pipeline_depth = alone ? 1 : GetParam().depth;
    options.runner.pool = &pool_;
    auto executor = MakeLocalExecutor(options);
    if (absl::IsUnavailable(executor.status())) return nullptr;
    EXPECT_TRUE(executor.ok()) << executor.status();
    if (!executor.ok()) return nullptr;
    EngineOptions engine;
    engine.clock = &clock_;
    engine.scheduler.prefix_cache = !alone;
    engine.scheduler.speculation.ngram = !alone && GetParam().drafts;
    engine.scheduler.speculation.min_match = 2;
    return std::make_unique<EngineLoop>(*std::move(executor), engine);
  }

  /// Of keys and values in 4 layers of 4 heads of 32; of bytes each with a scale.
  static int64_t BlockBytes() {
    const int64_t vector = GetParam().kv_dtype == DType::kInt8 ? 32 + 4 : 32 * 2;
    return int64_t{2} * 4 * 4 * kDeviceBlock * vector;
  }

  /// The tokens of a kind, drawn with nobody beside it.
  const std::vector<TokenId>& Expected(const RequestKind& kind) {
    std::vector<TokenId>& ids = expected_[kind];
    if (!ids.empty()) return ids;
    const auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(alone_->Submit(RequestId{next_alone_++}, RequestOf(kind), sink).ok());
    while (!sink->done) alone_->RunOnce();
    EXPECT_EQ(sink->reason, FinishReason::kLength) << sink->status;
    return ids = sink->ids;
  }

  TempDir dir_;
  WorkerPool pool_{2};
  FakeClock clock_;
  std::unique_ptr<EngineLoop> alone_;
  std::map<RequestKind, std::vector<TokenId>> expected_;
  uint64_t next_alone_ = 1;
};

TEST_P(DeviceSimulation, EveryAnswerIsThatOfTheRequestAlone) {
  alone_ = MakeEngine(true, int64_t{1} << 20);
  if (alone_ == nullptr) GTEST_SKIP() << "this build has no " << GetParam().device;
  int num_requests = GetParam().num_requests;
  if (kSanitized) num_requests /= 4;
  // Five blocks, for requests of three.
  const auto engine = MakeEngine(false, 5 * BlockBytes());
  ASSERT_NE(engine, nullptr);
  std::mt19937_64 random(TestSeed());
  struct Live {
    RequestId id;
    RequestKind kind;
    std::shared_ptr<RecordingSink> sink;
    bool cancelled = false;
  };
  std::vector<Live> all;
  int num_done = 0;
  for (int idle = 0; num_done < num_requests;) {
    const auto num_live = static_cast<int>(all.size()) - num_done;
    if (static_cast<int>(all.size()) < num_requests && num_live < 6 && random() % 2 == 0) {
      const RequestKind kind{static_cast<int32_t>(random() % 2),
                             static_cast<int32_t>(6 + random() % 2 * 6), random() % 3 == 0};
      Live& live = all.emplace_back(
          Live{RequestId{all.size() + 1}, kind, std::make_shared<RecordingSink>()});
      GenerateRequest request = RequestOf(kind);
      request.priority = static_cast<int32_t>(random() % 3);
      ASSERT_TRUE(engine->Submit(live.id, std::move(request), live.sink).ok());
    }
    if (!all.empty() && random() % 16 == 0) {
      Live& live = all[random() % all.size()];
      live.cancelled = true;
      engine->Cancel(live.id);
    }
    clock_.Advance(absl::Milliseconds(5));
    idle = engine->RunOnce() ? 0 : idle + 1;
    ASSERT_LT(idle, 100) << "nothing moves";
    num_done = static_cast<int>(
        std::count_if(all.begin(), all.end(), [](const Live& l) { return l.sink->done; }));
  }
  while (engine->RunOnce()) {
  }
  int num_whole = 0;
  for (const Live& live : all) {
    const std::vector<TokenId>& expected = Expected(live.kind);
    const std::vector<TokenId>& got = live.sink->ids;
    if (live.sink->reason == FinishReason::kCancelled) {
      EXPECT_TRUE(live.cancelled);
      ASSERT_LE(got.size(), expected.size());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
      continue;
    }
    ASSERT_EQ(live.sink->reason, FinishReason::kLength) << live.sink->status;
    EXPECT_EQ(got, expected) << "request " << live.id.value;
    ++num_whole;
  }
  const SchedulerCounters& counters = engine->scheduler().counters();
  std::printf("whole %d, preemptions %lld, prefix hits %lld of %lld, drafts right %lld of %lld\n",
              num_whole, static_cast<long long>(counters.num_preemptions),
              static_cast<long long>(counters.prefix_hit_tokens),
              static_cast<long long>(counters.prefix_queried_tokens),
              static_cast<long long>(counters.num_accepted_tokens),
              static_cast<long long>(counters.num_draft_tokens));
  EXPECT_GT(num_whole, 0);
  if (num_requests >= 50) {  // fewer may by chance not press, under another seed than 1
    EXPECT_GT(num_whole, num_requests / 2);
    EXPECT_GT(counters.prefix_hit_tokens, 0);
    EXPECT_GT(counters.num_preemptions, 0);
    if (GetParam().drafts) EXPECT_GT(counters.num_draft_tokens, 0);
    EXPECT_EQ(counters.tier_hit_tokens > 0, GetParam().tier);
  }
  EXPECT_EQ(engine->scheduler().tables().tier().num_held(), 0);
  EXPECT_EQ(engine->scheduler().tables().pool(0).num_held(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Depths, DeviceSimulation,
    ::testing::Values(DeviceScenario{"CpuDepth1", "cpu", 200, 1, false},
                      DeviceScenario{"CpuDepth2Drafts", "cpu", 200, 2, true},
                      DeviceScenario{"CpuTier", "cpu", 200, 1, false, DType::kBFloat16, true},
                      DeviceScenario{"CpuTierOfBytesOnDisk", "cpu", 200, 2, true, DType::kInt8,
                                     true, true},
                      DeviceScenario{"EmulatedDepth1", "cuda-emulated", 8, 1, false},
                      DeviceScenario{"EmulatedDepth2Drafts", "cuda-emulated", 8, 2, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace penstock
