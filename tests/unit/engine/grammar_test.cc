// Sequences under a grammar: every row that is drawn has its mask, at both depths of the pipeline,
// with and without drafts.
#include <algorithm>
#include <deque>
#include <map>

#include "base/clock.h"
#include "engine/engine_loop.h"
#include "fakes/fake_executor.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr int32_t kVocab = 100;
constexpr TokenId kEos = 99;

/// Allows 10, 11, 12, 10, 11 ...: `length` of them.
class CycleMatcher final : public TokenMatcher {
 public:
  explicit CycleMatcher(int32_t length) : length_(length) {}
  bool Accept(TokenId id) override {
    if (at_ == length_ || id != 10 + at_ % 3) return false;
    ++at_;
    return true;
  }
  void Rollback(int32_t num_tokens) override { at_ -= num_tokens; }
  bool finished() const override { return at_ >= length_ - 1; }
  bool ended() const override { return at_ == length_; }
  void FillMask(absl::Span<uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0);
    if (at_ < length_) words[0] |= 1u << (10 + at_ % 3);
  }

 private:
  const int32_t length_;
  int32_t at_ = 0;
};

class CycleGrammar final : public TokenGrammar {
 public:
  explicit CycleGrammar(int32_t length) : length_(length) {}
  std::unique_ptr<TokenMatcher> Start() const override {
    return std::make_unique<CycleMatcher>(length_);
  }

 private:
  const int32_t length_;
};

/// 30 or 31, then five tokens of one text, each of which may be written as 10 + i, or as 40 + i; and
/// again.
class RunMatcher final : public TokenMatcher {
 public:
  bool Accept(TokenId id) override {
    const int32_t i = at_ % kRun;
    if (i == 0 ? id != 30 && id != 31 : id != 10 + i && id != 40 + i) return false;
    ++at_;
    return true;
  }
  void Rollback(int32_t num_tokens) override { at_ -= num_tokens; }
  bool finished() const override { return false; }
  bool ended() const override { return false; }
  absl::Span<const TokenId> Forced() override {
    static constexpr TokenId kForced[] = {11, 12, 13, 14, 15};
    const int32_t i = at_ % kRun;
    if (i == 0) return {};
    return absl::MakeConstSpan(kForced).subspan(static_cast<size_t>(i) - 1);
  }
  void FillMask(absl::Span<uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0);
    const int32_t i = at_ % kRun;
    for (const TokenId id : {i == 0 ? 30 : 10 + i, i == 0 ? 31 : 40 + i})
      words[id / 32] |= 1u << (id % 32);
  }

 private:
  static constexpr int32_t kRun = 6;
  int32_t at_ = 0;
};

class RunGrammar final : public TokenGrammar {
 public:
  std::unique_ptr<TokenMatcher> Start() const override { return std::make_unique<RunMatcher>(); }
};

/// Draws the first token that a row's mask allows; without one, token 1.
class FirstAllowedExecutor final : public Executor {
 public:
  explicit FirstAllowedExecutor(ExecutorLimits limits) : limits_(std::move(limits)) {}
  const ExecutorLimits& limits() const override { return limits_; }
  absl::Status Launch(const StepPlan& plan) override {
    steps_.push_back({plan, {}});
    ++num_steps;
    return absl::OkStatus();
  }
  absl::Status Sample(StepId step, absl::Span<const RowMask> masks) override {
    EXPECT_EQ(steps_.back().plan.step, step);
    for (const RowMask& mask : masks)
      steps_.back().masks[{mask.slice, mask.output}] = {mask.words.begin(), mask.words.end()};
    return absl::OkStatus();
  }
  absl::StatusOr<StepResult> Collect() override {
    const Step step = std::move(steps_.front());
    steps_.pop_front();
    StepResult result;
    result.step = step.plan.step;
    for (size_t i = 0; i < step.plan.slices.size(); ++i) {
      const SequenceSlice& slice = step.plan.slices[i];
      if (slice.num_outputs == 0) continue;
      SliceResult& out = result.slices.emplace_back();
      out.sequence = slice.sequence;
      out.slot = slice.slot;
      for (int32_t row = 0; row <= slice.num_drafts; ++row) {
        const auto mask = step.masks.find({static_cast<int32_t>(i), row});
        const TokenId id = mask == step.masks.end() ? 1 : First(mask->second);
        out.tokens.emplace_back().id = id;
        const int32_t next = slice.token_offset + slice.num_tokens - slice.num_drafts + row;
        if (row == slice.num_drafts || step.plan.tokens[next] != id) break;
        ++out.num_accepted;
        ++num_accepted;
      }
    }
    return result;
  }
  absl::Status Control(const Command&) override { return absl::OkStatus(); }

  int32_t num_accepted = 0, num_steps = 0;

 private:
  struct Step {
    StepPlan plan;
    std::map<std::pair<int32_t, int32_t>, std::vector<uint32_t>> masks;
  };
  static TokenId First(const std::vector<uint32_t>& words) {
    for (TokenId id = 0; id < kVocab; ++id) {
      if ((words[id / 32] >> (id % 32) & 1) != 0) return id;
    }
    return -1;
  }

  const ExecutorLimits limits_;
  std::deque<Step> steps_;
};

class EngineGrammarTest : public testing::TestWithParam<std::pair<int, bool>> {
 protected:
  void SetUp() override {
    ExecutorLimits limits;
    limits.groups = {{CacheRetention::kFull, 0, 1024, 256}};
    limits.num_slots = 4;
    limits.pipeline_depth = GetParam().first;
    limits.max_step_tokens = 64;
    limits.max_context = 1024;
    limits.vocab_size = kVocab;
    auto executor = std::make_unique<FirstAllowedExecutor>(limits);
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
    request.stop_token_ids = {kEos};
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

INSTANTIATE_TEST_SUITE_P(DepthsAndDrafts, EngineGrammarTest,
                         testing::Values(std::pair(1, false), std::pair(2, false),
                                         std::pair(1, true), std::pair(2, true)));

}  // namespace
}  // namespace penstock
