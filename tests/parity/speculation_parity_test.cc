// Drafts change no token: the demo model through the engine, with and without speculation.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "base/status_macros.h"
#include "base/worker_pool.h"
#include "engine/engine_loop.h"
#include "executor/kv_cache.h"
#include "executor/local_executor.h"
#include "parity/speculated_answers.h"

namespace penstock {
namespace {

class Speculation : public ::testing::TestWithParam<std::tuple<int, std::string>> {
 protected:
  std::unique_ptr<LoadedModel> LoadDemo(const std::string& quantize) {
    LoadOptions load;
    load.model_dir = std::string(PENSTOCK_SOURCE_DIR) + "/models/demo";
    load.quantize = quantize;
    load.pool = &pool_;
    auto model = LoadModel(load);
    CHECK(model.ok());
    return *std::move(model);
  }

  /// `draft_form`: how the demo is rounded that guesses for itself; empty: it does not.
  std::unique_ptr<EngineLoop> MakeEngine(bool ngram, int64_t kv_blocks,
                                         const std::string& draft_form = "") {
    std::unique_ptr<LoadedModel> model = LoadDemo("none");
    std::unique_ptr<LoadedModel> draft;
    if (!draft_form.empty()) draft = LoadDemo(draft_form);
    RunnerOptions runner;
    runner.dtype = runner.kv_dtype =
        std::get<1>(GetParam()) == "float32" ? DType::kFloat32 : DType::kBFloat16;
    runner.max_len = 256;
    runner.num_slots = 8;
    runner.max_step_tokens = 64;
    runner.pipeline_depth = std::get<0>(GetParam());
    const int64_t models = draft == nullptr ? 1 : 2;
    runner.kv_bytes = models * kv_blocks * 16 * CacheBytesPerToken(model->config, runner.kv_dtype);
    runner.draft_dtype = runner.dtype;
    runner.max_drafts = 4;
    auto executor = MakeLocalExecutor(std::move(model), runner, std::move(draft));
    CHECK(executor.ok());
    EngineOptions options;
    options.clock = &clock_;
    options.scheduler.speculation.ngram = ngram;
    options.scheduler.speculation.min_match = 2;
    return std::make_unique<EngineLoop>(*std::move(executor), options);
  }

  std::vector<std::shared_ptr<KeepingSink>> Run(EngineLoop& engine,
                                                const std::vector<GenerateRequest>& requests,
                                                int32_t cancel_every = 0) {
    return RunSpeculated(engine, requests, next_id_, cancel_every);
  }

  WorkerPool pool_{2};
  FakeClock clock_;
  uint64_t next_id_ = 1;
};

TEST_P(Speculation, AnswersTokenForTokenTheSame) {
  const auto plain_engine = MakeEngine(false, 400);
  const auto expected = Run(*plain_engine, SpeculatedRequests(16, 4000));
  EXPECT_EQ(plain_engine->scheduler().counters().num_draft_tokens, 0);
  for (const int64_t kv_blocks : {400, 30}) {  // 30: sequences are preempted
    const auto engine = MakeEngine(true, kv_blocks);
    const auto answers = Run(*engine, SpeculatedRequests(16, 4000));
    for (size_t i = 0; i < answers.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(answers[i]->tokens.size(), expected[i]->tokens.size());
      ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
    }
    const SchedulerCounters& counters = engine->scheduler().counters();
    EXPECT_GT(counters.num_accepted_tokens, 100);
    EXPECT_GT(counters.num_draft_tokens, counters.num_accepted_tokens);
    EXPECT_GT(counters.prefix_hit_tokens, 0);
    EXPECT_EQ(counters.num_preemptions > 0, kv_blocks == 30);
    EXPECT_EQ(engine->scheduler().tables().pool(0).num_held(), 0);
  }
}

TEST_P(Speculation, CancelledRequestsHaveABeginningOfTheSameAnswer) {
  const auto plain_engine = MakeEngine(false, 400);
  const auto expected = Run(*plain_engine, SpeculatedRequests(16, 4000));
  const auto engine = MakeEngine(true, 60);
  const auto answers = Run(*engine, SpeculatedRequests(16, 4000), 7);
  int num_cancelled = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
    num_cancelled += answers[i]->reason == FinishReason::kCancelled ? 1 : 0;
  }
  EXPECT_GT(num_cancelled, 0);
  EXPECT_GT(engine->scheduler().counters().num_accepted_tokens, 0);
  EXPECT_EQ(engine->scheduler().tables().pool(0).num_held(), 0);
}

/// The second time the answer is known beforehand, so that the stop token lies inside drafts.
TEST_P(Speculation, StopsWhereItDoesWithout) {
  const auto engine = MakeEngine(true, 400);
  std::vector<GenerateRequest> requests = {SpeculatedRequests(16, 4000)[0],
                                           SpeculatedRequests(16, 4000)[4]};
  const auto whole = Run(*engine, requests);
  int num_inside = 0;
  for (size_t r = 0; r < requests.size(); ++r) {
    for (size_t stop = 1; stop < whole[r]->tokens.size(); stop += 5) {
      GenerateRequest request = requests[r];
      request.stop_token_ids = {whole[r]->tokens[stop].id};
      size_t end = 0;
      while (whole[r]->tokens[end].id != request.stop_token_ids[0]) ++end;
      const int64_t before = engine->scheduler().counters().num_accepted_tokens;
      const auto answer = Run(*engine, {request})[0];
      SCOPED_TRACE(stop);
      EXPECT_EQ(answer->reason, FinishReason::kStop);
      EXPECT_EQ(answer->usage.stop_token, request.stop_token_ids[0]);
      ASSERT_EQ(answer->tokens.size(), end + 1);
      ExpectPrefix(answer->tokens, whole[r]->tokens);
      // More was accepted than the request may have: the stop token was followed by right drafts.
      const int64_t accepted = engine->scheduler().counters().num_accepted_tokens - before;
      num_inside += accepted > static_cast<int64_t>(end) ? 1 : 0;
    }
  }
  EXPECT_GT(num_inside, 0);
}

/// A draft model that is the model itself, bit for bit, guesses right wherever nothing but the logits
/// and the position's noise decide.
TEST_P(Speculation, TheModelItselfGuessesEveryTokenRight) {
  std::vector<GenerateRequest> requests;
  for (const GenerateRequest& r : SpeculatedRequests(16, 4000)) {
    if (!r.sampling.needs_counts() && r.sampling.logit_bias.empty()) requests.push_back(r);
  }
  const auto plain_engine = MakeEngine(false, 400);
  const auto expected = Run(*plain_engine, requests);
  const auto engine = MakeEngine(false, 400, "none");
  const auto answers = Run(*engine, requests);
  for (size_t i = 0; i < answers.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(answers[i]->tokens.size(), expected[i]->tokens.size());
    ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
  }
  const SchedulerCounters& counters = engine->scheduler().counters();
  EXPECT_GT(counters.num_draft_tokens, 500);
  EXPECT_EQ(counters.num_accepted_tokens, counters.num_draft_tokens);
  EXPECT_GT(counters.prefix_hit_tokens, 0);
}

TEST_P(Speculation, ADraftModelChangesNoToken) {
  const auto plain_engine = MakeEngine(false, 400);
  const auto expected = Run(*plain_engine, SpeculatedRequests(16, 4000));
  for (const int64_t kv_blocks : {400, 30}) {  // 30: sequences are preempted
    for (const int32_t cancel_every : {0, 7}) {
      const auto engine = MakeEngine(false, kv_blocks, "int4");
      const auto answers = Run(*engine, SpeculatedRequests(16, 4000), cancel_every);
      for (size_t i = 0; i < answers.size(); ++i) {
        SCOPED_TRACE(i);
        if (cancel_every == 0) {
          EXPECT_EQ(answers[i]->tokens.size(), expected[i]->tokens.size());
        }
        ExpectPrefix(answers[i]->tokens, expected[i]->tokens);
      }
      const SchedulerCounters& counters = engine->scheduler().counters();
      EXPECT_GT(counters.num_accepted_tokens, counters.num_draft_tokens / 4);
      EXPECT_GT(counters.num_draft_tokens, counters.num_accepted_tokens);
      for (const int32_t group : {0, 1})
        EXPECT_EQ(engine->scheduler().tables().pool(group).num_held(), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, Speculation,
                         ::testing::Combine(::testing::Values(1, 2),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           return "Depth" + std::to_string(std::get<0>(info.param)) +
                                  std::get<1>(info.param);
                         });

}  // namespace
}  // namespace penstock
