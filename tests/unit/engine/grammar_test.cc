// Sequences under a grammar: every row that is drawn has its mask, at both depths of the pipeline,
// with and without drafts.
#include "base/clock.h"
#include "engine/engine_loop.h"
#include "fakes/fake_executor.h"
#include "fakes/masked_executor.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

class EngineGrammarTest : public testing::TestWithParam<std::pair<int, bool>> {
 protected:
  void SetUp() override {
    auto executor = std::make_unique<FirstAllowedExecutor>(MaskedLimits(4, 256, GetParam().first));
    executor_ = executor.get();
    EngineOptions options;
    options.clock = &SystemClock::Get();
    options.scheduler.speculation.ngram = GetParam().second;
    options.scheduler.speculation.max_tokens = 4;
    options.scheduler.speculation.min_match = 2;
    engine_ = std::make_unique<EngineLoop>(std::move(executor), options);
  }

  std::shared_ptr<RecordingSink> Run(int32_t length, int32_t max_tokens, bool free = false) {
    GenerateRequest request;
    request.prompt = {1, 2, 3};
    request.max_tokens = max_tokens;
    request.stop_token_ids = {kMaskedEos};
    if (!free) request.grammar = std::make_shared<CycleGrammar>(length);
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(engine_->Submit(RequestId{next_++}, std::move(request), sink).ok());
    return sink;
  }

  FirstAllowedExecutor* executor_ = nullptr;
  std::unique_ptr<EngineLoop> engine_;
  uint64_t next_ = 1;
};

TEST_P(EngineGrammarTest, DrawsOnlyWhatItsGrammarAllows) {
  const auto full = Run(40, 100);
  const auto cut = Run(40, 17);
  const auto other = Run(0, 9, /*free=*/true);
  while (engine_->RunOnce()) {
  }
  std::vector<TokenId> cycle;
  for (int i = 0; i < 40; ++i) cycle.push_back(10 + i % 3);
  EXPECT_EQ(full->ids, cycle);
  EXPECT_EQ(full->reason, FinishReason::kStop);
  EXPECT_EQ(cut->ids, std::vector<TokenId>(cycle.begin(), cycle.begin() + 17));
  EXPECT_EQ(cut->reason, FinishReason::kLength);
  EXPECT_EQ(other->ids, std::vector<TokenId>(9, 1));
  // With steps in flight nothing is guessed under a grammar.
  const auto [depth, drafts] = GetParam();
  if (drafts && depth == 1) {
    EXPECT_GT(executor_->num_accepted, 10);
  }
}

TEST_P(EngineGrammarTest, TakesWhatIsForcedInOneStep) {
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 62;
  request.grammar = std::make_shared<RunGrammar>();
  const auto plain = std::make_shared<RecordingSink>();
  ASSERT_TRUE(engine_->Submit(RequestId{next_++}, request, plain).ok());
  while (engine_->RunOnce()) {
  }
  std::vector<TokenId> expected;
  for (int i = 0; i < 62; ++i) expected.push_back(i % 6 == 0 ? 30 : 10 + i % 6);
  EXPECT_EQ(plain->ids, expected);
  EXPECT_EQ(plain->reason, FinishReason::kLength);
  // With a step in flight, the first token of such a text is drawn before it is known to be one.
  EXPECT_LE(executor_->num_steps, GetParam().first == 1 ? 12 : 24);

  // What the request forbids is written otherwise.
  request.sampling.bad_words = {{12}, {14, 15}};
  const auto forbidden = std::make_shared<RecordingSink>();
  ASSERT_TRUE(engine_->Submit(RequestId{next_++}, request, forbidden).ok());
  while (engine_->RunOnce()) {
  }
  for (TokenId& id : expected) id = id == 12 ? 42 : id == 15 ? 45 : id;
  EXPECT_EQ(forbidden->ids, expected);
}

TEST_P(EngineGrammarTest, EndsWhereNothingCanFollow) {
  const auto sink = Run(1, 10);
  while (engine_->RunOnce()) {
  }
  EXPECT_EQ(sink->ids, std::vector<TokenId>{10});
  EXPECT_EQ(sink->reason, FinishReason::kStop);
  EXPECT_EQ(sink->usage.completion_tokens, 1);
}

TEST_P(EngineGrammarTest, EndsWithAllOfItsTextWhereNoTokenMaySaySo) {
  std::vector<TokenId> cycle;
  for (int i = 0; i < 40; ++i) cycle.push_back(10 + i % 3);
  for (const int32_t length : {37, 38, 39, 40}) {  // wherever drafts end
    GenerateRequest request;
    request.prompt = {1, 2, 3};
    request.max_tokens = 100;
    request.grammar = std::make_shared<CycleGrammar>(length);
    const auto sink = std::make_shared<RecordingSink>();
    ASSERT_TRUE(engine_->Submit(RequestId{next_++}, std::move(request), sink).ok());
    while (engine_->RunOnce()) {
    }
    EXPECT_EQ(sink->ids, std::vector<TokenId>(cycle.begin(), cycle.begin() + length));
    EXPECT_EQ(sink->reason, FinishReason::kStop);
  }
}

TEST_P(EngineGrammarTest, WhatIsTooAmbiguousBehindAGuessEndsTheGuessesAlone) {
  for (const bool at_once : {false, true}) {
    // Guesses follow the cycle into what is too ambiguous; what is drawn does not.
    for (const int32_t turn : {30, 31, 32, 33, 34}) {
      SCOPED_TRACE(turn);
      GenerateRequest request;
      request.prompt = {1, 2, 3};
      request.max_tokens = 60;
      request.stop_token_ids = {kMaskedEos};
      request.grammar = std::make_shared<AmbiguousGrammar>(
          AmbiguousCycle{turn, turn + 1, /*anyway=*/false, at_once});
      const auto sink = std::make_shared<RecordingSink>();
      ASSERT_TRUE(engine_->Submit(RequestId{next_++}, std::move(request), sink).ok());
      while (engine_->RunOnce()) {
      }
      std::vector<TokenId> expected;
      for (int32_t i = 0; i < 60; ++i) expected.push_back(i < turn ? 10 + i % 3 : 5);
      EXPECT_EQ(sink->ids, expected);
      EXPECT_EQ(sink->reason, FinishReason::kLength) << sink->status;
    }
    // Where what is drawn leads there, all that came before is handed out, and the error is its own.
    for (const int32_t end : {30, 31, 32, 33, 34}) {
      SCOPED_TRACE(end);
      GenerateRequest request;
      request.prompt = {1, 2, 3};
      request.max_tokens = 60;
      request.stop_token_ids = {kMaskedEos};
      request.grammar = std::make_shared<AmbiguousGrammar>(
          AmbiguousCycle{/*turn=*/60, end, /*anyway=*/true, at_once});
      const auto sink = std::make_shared<RecordingSink>();
      ASSERT_TRUE(engine_->Submit(RequestId{next_++}, std::move(request), sink).ok());
      while (engine_->RunOnce()) {
      }
      std::vector<TokenId> expected;
      for (int32_t i = 0; i < end; ++i) expected.push_back(10 + i % 3);
      EXPECT_EQ(sink->ids, expected);
      EXPECT_EQ(sink->reason, FinishReason::kError);
      EXPECT_EQ(sink->status.message(), "so many ways");
    }
  }
}

TEST_P(EngineGrammarTest, SaysWhereNoTokenFits) {
  // Grammars of texts that no token has allow nothing, and no end.
  class Nothing final : public TokenMatcher {
   public:
    bool Accept(TokenId) override { return false; }
    void Rollback(int32_t) override {}
    bool finished() const override { return false; }
    bool ended() const override { return false; }
    void FillMask(absl::Span<uint32_t> words) override { std::fill(words.begin(), words.end(), 0); }
  };
  class OfNothing final : public TokenGrammar {
    std::unique_ptr<TokenMatcher> Start() const override { return std::make_unique<Nothing>(); }
  };
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 5;
  request.grammar = std::make_shared<OfNothing>();
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(engine_->Submit(RequestId{next_++}, std::move(request), sink).ok());
  while (engine_->RunOnce()) {
  }
  EXPECT_EQ(sink->reason, FinishReason::kError);
  EXPECT_EQ(sink->status.message(), "the grammar asks for text that no token of this model has");
}

INSTANTIATE_TEST_SUITE_P(DepthsAndDrafts, EngineGrammarTest,
                         testing::Values(std::pair(1, false), std::pair(2, false),
                                         std::pair(1, true), std::pair(2, true)));

}  // namespace
}  // namespace penstock
