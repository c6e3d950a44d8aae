// A draft model beside a tiny one, planned by hand.
#include "executor/draft_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/model_runner.h"
#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kDrafts = 3;

/// TinyConfig with one thing changed.
std::string Changed(const std::string& what, const std::string& to) {
  std::string config = TinyConfig();
  const size_t at = config.find(what);
  CHECK(at != config.npos);
  return config.replace(at, what.size(), to);
}

class DraftRunnerTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<ModelRunner>> Make(const std::string& draft_config) {
    draft_ = LoadTinyModel(&pool_, draft_config);
    RunnerOptions options = TinyRunnerOptions();
    options.draft = draft_.get();
    options.max_drafts = kDrafts;
    return ModelRunner::Make(model_.get(), options);
  }
  std::string Refusal(const std::string& draft_config) {
    return std::string(Make(draft_config).status().message());
  }

  /// Positions [begin, begin + known), of which the tokens are known, and guesses after them. The
  /// slot's first slice gets `blocks` in both groups.
  StepPlan Slice(int32_t begin, std::vector<TokenId> known, int32_t guesses,
                 std::vector<BlockId> blocks = {}) {
    StepPlan plan;
    plan.step = StepId(1);
    SequenceSlice slice;
    slice.sequence = SequenceId(7);
    slice.slot = SlotId(0);
    slice.begin = begin;
    slice.num_tokens = static_cast<int32_t>(known.size()) + guesses;
    slice.num_drafts = guesses;
    slice.kind = OutputKind::kToken;
    slice.num_outputs = 1 + guesses;
    plan.tokens = std::move(known);
    plan.tokens.insert(plan.tokens.end(), guesses, -1);
    if (!blocks.empty()) {
      SlotSetup s;
      s.slot = slice.slot;
      s.sequence = slice.sequence;
      s.sampling.temperature = 0;
      s.history = history_;
      plan.setups.push_back(s);
      plan.block_ids = blocks;
      for (int group : {0, 1}) slice.blocks[group] = {0, static_cast<int32_t>(blocks.size())};
    }
    plan.slices.push_back(slice);
    return plan;
  }
  SliceResult Step(ModelRunner& runner, const StepPlan& plan) {
    CHECK(runner.Forward(plan).ok());
    auto result = runner.Sample({});
    CHECK(result.ok());
    return result->slices.at(0);
  }

  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_ = LoadTinyModel(&pool_);
  std::unique_ptr<LoadedModel> draft_;
  std::vector<TokenId> history_ = TinyPrompt(40, 1);
};

TEST_F(DraftRunnerTest, KeepsItsCacheBesideTheModels) {
  const auto runner = Make(TinyConfig());
  ASSERT_TRUE(runner.ok()) << runner.status();
  const ExecutorLimits& limits = (*runner)->limits();
  ASSERT_EQ(limits.groups.size(), 2u);
  EXPECT_EQ(limits.groups[1].retention, CacheRetention::kDraft);
  EXPECT_EQ(limits.groups[0].num_blocks, limits.groups[1].num_blocks);
  EXPECT_LE(
      limits.groups[0].num_blocks * (limits.groups[0].block_bytes + limits.groups[1].block_bytes),
      TinyRunnerOptions().kv_bytes);
  EXPECT_EQ(limits.max_model_drafts, kDrafts);
}

/// The draft model is the model itself, so that it guesses right if it saw the right past.
TEST_F(DraftRunnerTest, CatchesUpWithWhateverItHasNotSeen) {
  const auto made = Make(TinyConfig());
  ASSERT_TRUE(made.ok()) << made.status();
  ModelRunner& runner = **made;
  StepPlan prompt = Slice(0, history_, 0, {3, 2, 1, 0});  // of which it sees nothing
  std::vector<TokenId> out = {Step(runner, prompt).tokens.at(0).id};
  int32_t begin = 40;
  for (const int32_t guesses : {3, 0, 0, 2, 3, 1, 0, 3}) {
    const SliceResult result = Step(runner, Slice(begin, {out.back()}, guesses));
    EXPECT_EQ(result.num_accepted, guesses) << "at " << begin;
    for (const SampledToken& token : result.tokens) out.push_back(token.id);
    begin += 1 + result.num_accepted;
  }
  ASSERT_EQ(begin, 40 + 8 + 12);
}

TEST_F(DraftRunnerTest, FindsWhatItComputedInBlocksOfAPrefix) {
  const auto made = Make(TinyConfig());
  ASSERT_TRUE(made.ok()) << made.status();
  ModelRunner& runner = **made;
  StepPlan prompt = Slice(0, history_, 0, {3, 2, 1, 0});
  prompt.slices[0].draft_along = true;
  Step(runner, prompt);
  // Another sequence starts behind the first two blocks; the draft model has them too. Its own part
  // of the prompt it has not seen.
  history_.resize(36);
  const TokenId next =
      Step(runner, Slice(32, {history_.begin() + 32, history_.end()}, 0, {3, 2, 5, 4}))
          .tokens[0]
          .id;
  EXPECT_EQ(Step(runner, Slice(36, {next}, 3)).num_accepted, 3);
  // Blocks that hold something else by now say nothing: it computes them anew.
  history_ = TinyPrompt(40, 2);
  Step(runner, Slice(0, history_, 0, {3, 2, 1}));
  const TokenId other =
      Step(runner, Slice(32, {history_.begin() + 32, history_.end()}, 0, {3, 2, 6})).tokens[0].id;
  EXPECT_EQ(Step(runner, Slice(40, {other}, 3)).num_accepted, 3);
}

TEST_F(DraftRunnerTest, GoesOnAfterWrongGuesses) {
  const auto made = Make(Changed("10000.0", "50.0"));
  ASSERT_TRUE(made.ok()) << made.status();
  const auto alone = ModelRunner::Make(model_.get(), TinyRunnerOptions());
  ASSERT_TRUE(alone.ok()) << alone.status();
  RunnerDriver driver(alone->get());
  DrivenSequence s = driver.Begin(history_, false);
  ASSERT_TRUE(driver.Run(s, 64, 100).ok());
  ModelRunner& runner = **made;
  std::vector<TokenId> out = {
      Step(runner, Slice(0, history_, 0, {3, 2, 1, 0, 7, 6, 5, 4, 8})).tokens.at(0).id};
  int32_t begin = 40;
  int32_t num_right = 0;
  while (out.size() < 90) {
    const SliceResult result = Step(runner, Slice(begin, {out.back()}, kDrafts));
    for (const SampledToken& token : result.tokens) out.push_back(token.id);
    begin += 1 + result.num_accepted;
    num_right += result.num_accepted;
  }
  EXPECT_TRUE(std::equal(out.begin(), out.end(), s.tokens.begin() + 40));
  EXPECT_LT(num_right, 67);
}

TEST_F(DraftRunnerTest, RefusesModelsThatCannotDraft) {
  EXPECT_THAT(Refusal(Changed("317", "1317")),
              HasSubstr("a vocabulary of 1317 tokens, the model it would guess for 317"));
  EXPECT_THAT(Refusal(Changed("512", "128")),
              HasSubstr("it has 128 positions, engine.max_len is 256"));
  EXPECT_THAT(Refusal(TinyConfig("MistralForCausalLM", R"("sliding_window": 32,)")),
              HasSubstr("layers with windows"));
  EXPECT_THAT(Refusal(TinyConfig("MistralForCausalLM", R"("sliding_window": 32,)")),
              HasSubstr("engine.speculation.draft_model: "));
}

}  // namespace
}  // namespace penstock
