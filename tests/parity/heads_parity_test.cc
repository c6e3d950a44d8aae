// A prediction head changes no token: tiny checkpoints through the engine, with their heads and
// without.
#include <gtest/gtest.h>

#include <memory>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "base/status_macros.h"
#include "base/worker_pool.h"
#include "engine/engine_loop.h"
#include "executor/kv_cache.h"
#include "executor/local_executor.h"
#include "fakes/head_checkpoint.h"
#include "parity/speculated_answers.h"

namespace penstock {
namespace {

constexpr int32_t kFirstToken = 3;
constexpr int32_t kNumTokens = kHeadVocab - kFirstToken;

std::vector<GenerateRequest> Requests() { return SpeculatedRequests(kFirstToken, kNumTokens); }

class Heads : public ::testing::TestWithParam<std::tuple<HeadKind, int, DType>> {
 protected:
  std::unique_ptr<LoadedModel> Load(const HeadCheckpoint& checkpoint, LoadHeads heads) {
    const TempDir dir;
    checkpoint.Write(dir);
    LoadOptions load;
    load.model_dir = dir.path();
    load.heads = heads;
    load.pool = &pool_;
    auto model = LoadModel(load);
    CHECK(model.ok());
    return *std::move(model);
  }

  std::unique_ptr<EngineLoop> MakeEngine(const HeadCheckpoint& checkpoint, LoadHeads heads,
                                         int64_t kv_blocks, const HeadCheckpoint* draft = nullptr) {
    auto model = Load(checkpoint, heads);
    std::unique_ptr<LoadedModel> guesses;
    if (draft != nullptr) guesses = Load(*draft, LoadHeads::kNone);
    RunnerOptions runner;
    runner.dtype = runner.kv_dtype = std::get<2>(GetParam());
    runner.max_len = 160;
    runner.num_slots = 8;
    runner.max_step_tokens = 64;
    runner.pipeline_depth = std::get<1>(GetParam());
    runner.max_drafts = 4;
    int64_t per_token = CacheBytesPerToken(model->config, runner.kv_dtype);
    runner.draft = guesses.get();
    runner.draft_dtype = runner.dtype;
    if (const ModelConfig* config = DraftConfig(*model, runner); config != nullptr)
      per_token += CacheBytesPerToken(*config, runner.kv_dtype);
    runner.kv_bytes = kv_blocks * 16 * per_token;
    auto executor = MakeLocalExecutor(std::move(model), runner, std::move(guesses));
    CHECK(executor.ok());
    EngineOptions options;
    options.clock = &clock_;
    return std::make_unique<EngineLoop>(*std::move(executor), options);
  }

  std::vector<std::shared_ptr<KeepingSink>> Run(EngineLoop& engine,
                                                const std::vector<GenerateRequest>& requests,
                                                int32_t cancel_every = 0) {
    return RunSpeculated(engine, requests, next_id_, cancel_every);
  }

  static void ExpectAllReturned(const EngineLoop& engine) {
    for (const int32_t group : {0, 1})
      EXPECT_EQ(engine.scheduler().tables().pool(group).num_held(), 0);
  }

  WorkerPool pool_{2};
  FakeClock clock_;
  uint64_t next_id_ = 1;
};

TEST_P(Heads, ChangeNoToken) {
  const HeadCheckpoint checkpoint(std::get<0>(GetParam()));
  const auto plain = MakeEngine(checkpoint, LoadHeads::kNone, 400);
  const auto expected = Run(*plain, Requests());
  EXPECT_EQ(plain->scheduler().counters().num_draft_tokens, 0);
  for (const int64_t kv_blocks : {400, 24}) {  // 24: sequences are preempted
    for (const int32_t cancel_every : {0, 7}) {
      const auto engine = MakeEngine(checkpoint, LoadHeads::kRequired, kv_blocks);
      const auto answers = Run(*engine, Requests(), cancel_every);
      for (size_t i = 0; i < answers.size(); ++i) {
        SCOPED_TRACE(i);
        if (cancel_every == 0) {
          EXPECT_EQ(answers[i]->tokens.size(), expected[i]->tokens.size());
        }
        ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
      }
      const SchedulerCounters& counters = engine->scheduler().counters();
      EXPECT_GT(counters.num_draft_tokens, counters.num_accepted_tokens);
      // Of so little memory snapshots of states are given up before a prompt could find them.
      if (kv_blocks == 400 || std::get<0>(GetParam()) != HeadKind::kQwenDelta) {
        EXPECT_GT(counters.prefix_hit_tokens, 0);
      }
      if (cancel_every == 0) {
        EXPECT_EQ(counters.num_preemptions > 0, kv_blocks == 24);
      }
      ExpectAllReturned(*engine);
    }
  }
}

/// Wherever nothing but the logits and the position's noise decide.
TEST_P(Heads, ThatAreRightAreAccepted) {
  HeadCheckpoint checkpoint(std::get<0>(GetParam()));
  checkpoint.MakeHeadRight();
  std::vector<GenerateRequest> requests;
  for (const GenerateRequest& r : Requests()) {
    if (!r.sampling.needs_counts() && r.sampling.logit_bias.empty()) requests.push_back(r);
  }
  const auto plain = MakeEngine(checkpoint, LoadHeads::kNone, 400);
  const auto expected = Run(*plain, requests);
  for (const int64_t kv_blocks : {400, 24}) {
    const auto engine = MakeEngine(checkpoint, LoadHeads::kRequired, kv_blocks);
    const auto answers = Run(*engine, requests);
    for (size_t i = 0; i < answers.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(answers[i]->tokens.size(), expected[i]->tokens.size());
      ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
    }
    const SchedulerCounters& counters = engine->scheduler().counters();
    EXPECT_GT(counters.num_draft_tokens, kv_blocks == 400 ? 300 : 100);
    // A second rounding (of bfloat16) may choose another of two that are nearly as good.
    const double least = std::get<2>(GetParam()) == DType::kFloat32 ? 0.999 : 0.8;
    EXPECT_GE(static_cast<double>(counters.num_accepted_tokens),
              least * static_cast<double>(counters.num_draft_tokens));
    ExpectAllReturned(*engine);
  }
}

/// A model beside it, also of one with a recurrent state.
TEST_P(Heads, NorDoesADraftModel) {
  const HeadCheckpoint checkpoint(std::get<0>(GetParam()));
  const HeadCheckpoint draft(HeadKind::kGlm, /*seed=*/2);
  const auto expected = Run(*MakeEngine(checkpoint, LoadHeads::kNone, 400), Requests());
  const auto engine = MakeEngine(checkpoint, LoadHeads::kNone, 400, &draft);
  const auto answers = Run(*engine, Requests());
  for (size_t i = 0; i < answers.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(answers[i]->tokens.size(), expected[i]->tokens.size());
    ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
  }
  EXPECT_GT(engine->scheduler().counters().num_draft_tokens, 300);
  ExpectAllReturned(*engine);
}

INSTANTIATE_TEST_SUITE_P(
    Engines, Heads,
    ::testing::Combine(::testing::Values(HeadKind::kDeepSeek, HeadKind::kGlm, HeadKind::kQwen,
                                         HeadKind::kQwenDelta),
                       ::testing::Values(1, 2),
                       ::testing::Values(DType::kFloat32, DType::kBFloat16)),
    [](const auto& info) {
      return NameOf(std::get<0>(info.param)) + "Depth" + std::to_string(std::get<1>(info.param)) +
             (std::get<2>(info.param) == DType::kFloat32 ? "Float32" : "BFloat16");
    });

}  // namespace
}  // namespace penstock
