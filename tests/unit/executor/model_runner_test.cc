#include "executor/model_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<ModelRunner> MakeRunner(LoadedModel* model,
                                        const RunnerOptions& options = TinyRunnerOptions()) {
  auto runner = ModelRunner::Make(model, options);
  CHECK(runner.ok());
  return *std::move(runner);
}

/// One sequence on slot 0 with blocks 3, 2, 1, 0, planned by hand.
StepPlan OneSlice(std::vector<TokenId> tokens, int32_t begin, OutputKind kind, int32_t num_outputs,
                  bool setup) {
  StepPlan plan;
  plan.step = StepId(1);
  SequenceSlice slice;
  slice.sequence = SequenceId(7);
  slice.slot = SlotId(0);
  slice.begin = begin;
  slice.num_tokens =
      static_cast<int32_t>(tokens.size()) - (kind == OutputKind::kPromptLogprobs ? 1 : 0);
  slice.kind = kind;
  slice.num_outputs = num_outputs;
  plan.tokens = std::move(tokens);
  if (setup) {
    SlotSetup s;
    s.slot = slice.slot;
    s.sequence = slice.sequence;
    s.sampling.temperature = 0;
    plan.setups.push_back(s);
    plan.block_ids = {3, 2, 1, 0};
    slice.blocks[0] = {0, 4};
  }
  plan.slices.push_back(slice);
  return plan;
}

class ModelRunnerTest : public ::testing::Test {
 protected:
  absl::StatusOr<StepResult> Step(const StepPlan& plan) {
    RETURN_IF_ERROR(runner_->Forward(plan));
    return runner_->Sample({});
  }
  /// The greedy continuation, computed token by token.
  std::vector<TokenId> Continuation(const std::vector<TokenId>& prompt, int32_t count) {
    RunnerDriver driver(runner_.get());
    DrivenSequence s = driver.Begin(prompt, false);
    CHECK(driver.Run(s, 64, count).ok());
    driver.End(s);
    return {s.tokens.begin() + s.num_prompt, s.tokens.end()};
  }

  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_ = LoadTinyModel(&pool_);
  std::unique_ptr<ModelRunner> runner_ = MakeRunner(model_.get());
};

TEST_F(ModelRunnerTest, AcceptsDraftsThatAreRightAndStopsAtTheFirstWrongOne) {
  const std::vector<TokenId> prompt = TinyPrompt(9, 1);
  const std::vector<TokenId> next = Continuation(prompt, 5);
  for (int32_t right = 0; right <= 3; ++right) {
    ASSERT_TRUE(Step(OneSlice(prompt, 0, OutputKind::kToken, 1, true)).ok());
    std::vector<TokenId> tokens = {next[0], next[1], next[2], next[3]};
    if (right < 3) tokens[right + 1] = (tokens[right + 1] + 1) % 317;
    StepPlan plan = OneSlice(tokens, 9, OutputKind::kToken, 4, false);
    plan.slices[0].num_drafts = 3;
    const auto result = Step(plan);
    ASSERT_TRUE(result.ok()) << result.status();
    const SliceResult& slice = result->slices.at(0);
    EXPECT_EQ(slice.num_accepted, right);
    ASSERT_EQ(slice.tokens.size(), static_cast<size_t>(right + 1));
    for (int32_t i = 0; i <= right; ++i) EXPECT_EQ(slice.tokens[i].id, next[i + 1]);

    // The next step begins where the verification ended, which only the device knows.
    StepPlan decode = OneSlice({-1}, 13, OutputKind::kToken, 1, false);
    decode.slices[0].feed_last_sample = true;
    decode.slices[0].begin_on_device = true;
    const auto after = Step(decode);
    ASSERT_TRUE(after.ok()) << after.status();
    if (right < 3) {
      EXPECT_EQ(after->slices[0].tokens[0].id, next[right + 2]);
    }
  }
}

TEST_F(ModelRunnerTest, GoesNotOnBehindARowThatIsTheLast) {
  const std::vector<TokenId> prompt = TinyPrompt(9, 1);
  const std::vector<TokenId> next = Continuation(prompt, 5);
  for (int32_t last = 0; last < 3; ++last) {
    ASSERT_TRUE(Step(OneSlice(prompt, 0, OutputKind::kToken, 1, true)).ok());
    StepPlan plan = OneSlice({next[0], next[1], next[2], next[3]}, 9, OutputKind::kToken, 4, false);
    plan.slices[0].num_drafts = 3;
    ASSERT_TRUE(runner_->Forward(plan).ok());
    const std::vector<uint32_t> all(10, ~0u);
    const auto result = runner_->Sample(std::vector<OwnedMask>{{0, last, all, true}});
    ASSERT_TRUE(result.ok()) << result.status();
    const SliceResult& slice = result->slices.at(0);
    EXPECT_EQ(slice.num_accepted, last);
    ASSERT_EQ(slice.tokens.size(), static_cast<size_t>(last + 1));
    EXPECT_EQ(slice.tokens.back().id, next[last + 1]);

    StepPlan decode = OneSlice({-1}, 13, OutputKind::kToken, 1, false);
    decode.slices[0].feed_last_sample = true;
    decode.slices[0].begin_on_device = true;
    const auto after = Step(decode);
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_EQ(after->slices[0].tokens[0].id, next[last + 2]);
  }
}

TEST_F(ModelRunnerTest, DraftsChangeNoSampledTokenEither) {
  const std::vector<TokenId> prompt = TinyPrompt(20, 4);
  SlotSetup setup;
  setup.slot = SlotId(0);
  setup.sequence = SequenceId(7);
  setup.prompt_tokens = 20;
  setup.sampling.seed = 5;
  setup.sampling.presence_penalty = 1.5f;
  setup.sampling.top_p = 0.9f;
  setup.history = prompt;
  setup.stop_token_ids = {0, 1, 2, 3};
  setup.sampling.min_tokens = 2;
  StepPlan first = OneSlice(prompt, 0, OutputKind::kToken, 1, true);
  first.setups = {setup};
  std::vector<TokenId> plain;
  {
    auto result = Step(first);
    ASSERT_TRUE(result.ok());
    plain.push_back(result->slices[0].tokens[0].id);
    for (int i = 0; i < 4; ++i) {
      result = Step(OneSlice({plain.back()}, 20 + i, OutputKind::kToken, 1, false));
      ASSERT_TRUE(result.ok());
      plain.push_back(result->slices[0].tokens[0].id);
    }
  }
  ASSERT_TRUE(Step(first).ok());
  StepPlan verify =
      OneSlice({plain[0], plain[1], plain[2], plain[3]}, 20, OutputKind::kToken, 4, false);
  verify.slices[0].num_drafts = 3;
  const auto result = Step(verify);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->slices[0].num_accepted, 3);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(result->slices[0].tokens[i].id, plain[i + 1]);
}

TEST_F(ModelRunnerTest, ScoresThePromptAndDrawsWhereTheNextTokenIsNotKnown) {
  std::vector<TokenId> prompt = TinyPrompt(12, 2);
  std::vector<std::vector<float>> logits;
  runner_->set_observer([&](size_t, int32_t position, absl::Span<const float> row) {
    EXPECT_EQ(position, static_cast<int32_t>(logits.size()));
    logits.emplace_back(row.begin(), row.end());
  });
  std::vector<TokenId> tokens = prompt;
  tokens.push_back(-1);
  StepPlan plan = OneSlice(tokens, 0, OutputKind::kPromptLogprobs, 12, true);
  plan.slices[0].num_logprobs = 3;
  const auto result = Step(plan);
  ASSERT_TRUE(result.ok()) << result.status();
  const SliceResult& slice = result->slices[0];
  EXPECT_EQ(slice.output.begin, 1);
  ASSERT_EQ(slice.output.prompt_logprobs.size(), 11u);
  ASSERT_EQ(slice.tokens.size(), 1u);
  for (int i = 0; i < 11; ++i) {
    const SampledToken& scored = slice.output.prompt_logprobs[i];
    double total = 0;
    for (const float x : logits[i]) total += std::exp(double{x});
    EXPECT_EQ(scored.id, prompt[i + 1]);
    EXPECT_NEAR(scored.logprob, logits[i][scored.id] - std::log(total), 1e-4);
    ASSERT_EQ(scored.top.size(), 3u);
    EXPECT_GE(scored.top[0].logprob, scored.top[1].logprob);
  }
  EXPECT_EQ(slice.tokens[0].id, Continuation(prompt, 1)[0]);
}

TEST_F(ModelRunnerTest, ScoresInSlabsAsInOnePiece) {
  RunnerOptions options = TinyRunnerOptions();
  options.max_len = 512;
  options.max_step_tokens = 512;
  const auto runner = MakeRunner(model_.get(), options);
  std::vector<TokenId> tokens = TinyPrompt(301, 8);
  StepPlan plan = OneSlice(tokens, 0, OutputKind::kPromptLogprobs, 300, true);
  plan.block_ids.clear();
  for (int i = 0; i < 19; ++i) plan.block_ids.push_back(i);
  plan.slices[0].blocks[0] = {0, 19};
  ASSERT_TRUE(runner->Forward(plan).ok());
  const auto result = runner->Sample({});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->slices[0].output.prompt_logprobs.size(), 300u);
  EXPECT_TRUE(result->slices[0].tokens.empty());
  for (int i = 0; i < 300; ++i)
    EXPECT_EQ(result->slices[0].output.prompt_logprobs[i].id, tokens[i + 1]);
}

TEST_F(ModelRunnerTest, GivesTheHiddenStateOfTheLastPosition) {
  const auto result = Step(OneSlice(TinyPrompt(6, 3), 0, OutputKind::kHidden, 1, true));
  ASSERT_TRUE(result.ok());
  const SliceResult& slice = result->slices[0];
  EXPECT_EQ(slice.output.kind, OutputKind::kHidden);
  EXPECT_TRUE(slice.tokens.empty());
  ASSERT_EQ(slice.output.hidden.size(), 40u);
  double squares = 0;
  for (const float x : slice.output.hidden) squares += x * x;
  EXPECT_NEAR(std::sqrt(squares / 40), 1.0, 0.2);  // RMSNorm was applied
}

TEST_F(ModelRunnerTest, DrawsOnlyWhatTheMaskAllows) {
  StepPlan plan = OneSlice(TinyPrompt(6, 3), 0, OutputKind::kToken, 1, true);
  ASSERT_TRUE(runner_->Forward(plan).ok());
  OwnedMask mask;
  mask.words.assign(10, 0);
  mask.words[123 / 32] = 1u << (123 % 32);
  const auto result = runner_->Sample(std::vector<OwnedMask>{mask});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->slices[0].tokens[0].id, 123);
}

TEST_F(ModelRunnerTest, ASliceReadsBlocksThatAnotherOneOfItsStepFills) {
  const std::vector<TokenId> prompt = TinyPrompt(20, 6);
  for (const bool reader_first : {false, true}) {
    StepPlan plan;
    plan.step = StepId(1);
    plan.tokens = prompt;
    plan.block_ids = {5, 5, 9};
    for (int32_t i = 0; i < 2;
         ++i) {  // sequence 0 computes the first block, sequence 1 what follows it
      SlotSetup setup;
      setup.slot = SlotId(i);
      setup.sequence = SequenceId(i);
      setup.sampling.temperature = 0;
      plan.setups.push_back(setup);
      SequenceSlice slice;
      slice.sequence = SequenceId(i);
      slice.slot = SlotId(i);
      slice.begin = slice.token_offset = i * 16;
      slice.num_tokens = i == 0 ? 16 : 4;
      slice.blocks[0] = {i, i + 1};
      slice.num_outputs = i;
      slice.kind = i == 0 ? OutputKind::kNone : OutputKind::kToken;
      plan.slices.insert(reader_first ? plan.slices.begin() : plan.slices.end(), slice);
    }
    const auto result = Step(plan);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->slices.size(), 1u);
    EXPECT_EQ(result->slices[0].tokens[0].id, Continuation(prompt, 1)[0]);
  }
}

TEST_F(ModelRunnerTest, KeepsStopTokensBackBelowMinTokens) {
  const std::vector<TokenId> prompt = TinyPrompt(6, 3);
  const TokenId first = Continuation(prompt, 1)[0];
  StepPlan plan = OneSlice(prompt, 0, OutputKind::kToken, 1, true);
  plan.setups[0].prompt_tokens = 6;
  plan.setups[0].stop_token_ids = {first};
  plan.setups[0].sampling.min_tokens = 1;
  auto result = Step(plan);
  ASSERT_TRUE(result.ok());
  EXPECT_NE(result->slices[0].tokens[0].id, first);
  plan.setups[0].sampling.min_tokens = 0;
  result = Step(plan);
  EXPECT_EQ(result->slices[0].tokens[0].id, first);
}

TEST_F(ModelRunnerTest, NeverCompletesABadWord) {
  const std::vector<TokenId> prompt = TinyPrompt(9, 1);
  const std::vector<TokenId> next = Continuation(prompt, 5);
  const auto written = [&](std::vector<std::vector<TokenId>> bad_words) {
    RunnerDriver driver(runner_.get());
    DrivenSequence s = driver.Begin(prompt, false);
    s.sampling.bad_words = std::move(bad_words);
    CHECK(driver.Run(s, 64, 5).ok());
    driver.End(s);
    return std::vector<TokenId>(s.tokens.begin() + s.num_prompt, s.tokens.end());
  };
  EXPECT_NE(written({{next[0]}})[0], next[0]);
  const std::vector<TokenId> two = written({{next[1], next[2]}, {next[4], next[0], next[1]}});
  EXPECT_EQ(two[0], next[0]);
  EXPECT_EQ(two[1], next[1]);
  EXPECT_NE(two[2], next[2]);
  const std::vector<TokenId> four = written({{next[0], next[1], next[2], next[3]}});
  EXPECT_TRUE(std::equal(four.begin(), four.begin() + 3, next.begin()));
  EXPECT_NE(four[3], next[3]);
  EXPECT_EQ(written({{prompt.back(), next[0]}}), next) << "the prompt begins no bad word";
  EXPECT_EQ(written({{next[1], next[0]}, {next[4], next[3]}}), next);
}

TEST_F(ModelRunnerTest, HoldsBadWordsAgainstDraftsAndAgainstWhatWasOutBefore) {
  const std::vector<TokenId> prompt = TinyPrompt(9, 1);
  const std::vector<TokenId> next = Continuation(prompt, 4);
  StepPlan first = OneSlice(prompt, 0, OutputKind::kToken, 1, true);
  first.setups[0].prompt_tokens = 9;
  first.setups[0].sampling.bad_words = {{next[1], next[2]}};
  ASSERT_TRUE(Step(first).ok());
  StepPlan drafts = OneSlice({next[0], next[1], next[2], next[3]}, 9, OutputKind::kToken, 4, false);
  drafts.slices[0].num_drafts = 3;
  const auto verified = Step(drafts);
  ASSERT_TRUE(verified.ok());
  EXPECT_EQ(verified->slices[0].num_accepted, 1);
  ASSERT_EQ(verified->slices[0].tokens.size(), 2u);
  EXPECT_NE(verified->slices[0].tokens[1].id, next[2]);

  // As after a preemption: what was out is read again.
  std::vector<TokenId> all = prompt;
  all.insert(all.end(), {next[0], next[1]});
  StepPlan again = OneSlice(all, 0, OutputKind::kToken, 1, true);
  again.setups[0].prompt_tokens = 9;
  again.setups[0].sampling.bad_words = {{next[1], next[2]}};
  again.setups[0].history = all;
  const auto resumed = Step(again);
  ASSERT_TRUE(resumed.ok());
  EXPECT_EQ(resumed->slices[0].tokens[0].id, verified->slices[0].tokens[1].id);
}

TEST_F(ModelRunnerTest, RefusesBrokenPlansWithAName) {
  const auto error = [&](const std::function<void(StepPlan&)>& damage) {
    StepPlan plan = OneSlice(TinyPrompt(6, 3), 0, OutputKind::kToken, 1, true);
    damage(plan);
    return Step(plan).status().ToString();
  };
  EXPECT_THAT(error([](StepPlan& p) { p.tokens[2] = 317; }), HasSubstr("token 317"));
  EXPECT_THAT(error([](StepPlan& p) { p.tokens[2] = -1; }), HasSubstr("token -1"));
  EXPECT_THAT(error([](StepPlan& p) { p.tokens.pop_back(); }), HasSubstr("tokens end"));
  EXPECT_THAT(error([](StepPlan& p) {
                p.setups.clear();
                p.slices[0].sequence = SequenceId(8);
              }),
              HasSubstr("not set up"));
  EXPECT_THAT(error([](StepPlan& p) { p.setups[0].slot = SlotId(99); }), HasSubstr("slot 99"));
  EXPECT_THAT(error([](StepPlan& p) { p.block_ids[0] = 1'000'000; }), HasSubstr("block 1000000"));
  EXPECT_THAT(error([](StepPlan& p) { p.slices[0].blocks[0].count = 0; }), HasSubstr("no blocks"));
  EXPECT_THAT(error([](StepPlan& p) { p.slices[0].begin = 255; }), HasSubstr("do not fit"));
  EXPECT_THAT(error([](StepPlan& p) { p.slices[0].num_drafts = 6; }), HasSubstr("drafts"));
  EXPECT_THAT(error([](StepPlan& p) { p.slices[0].adapter = AdapterId(3); }),
              HasSubstr("adapter 3"));
}

/// A prompt that makes numbers overflow must end nobody else's request, nor the process.
TEST_F(ModelRunnerTest, LogitsWithoutANumberAreTheFaultOfTheirSequenceAlone) {
  const std::vector<TokenId> prompt = TinyPrompt(6, 3);
  const auto before = Step(OneSlice(prompt, 0, OutputKind::kToken, 1, true));
  ASSERT_TRUE(before.ok()) << before.status();
  auto* norm = static_cast<float*>(model_->weights.final_norm.weight.data());
  const float was = std::exchange(norm[0], NAN);
  const auto result = Step(OneSlice(prompt, 0, OutputKind::kToken, 1, true));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->slices[0].fault.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(result->slices[0].fault.ToString(), HasSubstr("the model's numbers are too large"));
  EXPECT_TRUE(result->slices[0].tokens.empty());
  norm[0] = was;
  const auto after = Step(OneSlice(prompt, 0, OutputKind::kToken, 1, true));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_TRUE(after->slices[0].fault.ok());
  EXPECT_EQ(after->slices[0].tokens[0].id, before->slices[0].tokens[0].id);
}

TEST_F(ModelRunnerTest, RefusesMoreContextThanTheModelHas) {
  RunnerOptions options = TinyRunnerOptions();
  options.max_len = 513;
  EXPECT_EQ(ModelRunner::Make(model_.get(), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
