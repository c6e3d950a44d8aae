#include "service/best_of_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace penstock {
namespace {

using testing::ElementsAre;

class KeptChoices final : public ResponseSink {
 public:
  void OnStart(ResponseStart start) override { num_choices = start.num_choices; }
  void OnDeltas(absl::Span<Delta> deltas) override {
    for (Delta& delta : deltas) {
      EXPECT_EQ(delta.index, static_cast<int32_t>(texts.size()));
      texts.push_back(delta.text);
      num_tokens.push_back(delta.tokens.size());
    }
  }
  void OnEnd(const ResponseEnd& end) override {
    ++ends;
    failed = end.error.has_value();
  }

  int32_t num_choices = 0;
  int ends = 0;
  bool failed = false;
  std::vector<std::string> texts;
  std::vector<size_t> num_tokens;
};

Delta Candidate(int32_t index, std::string text, const std::vector<float>& logprobs) {
  Delta delta;
  delta.index = index;
  delta.text = std::move(text);
  for (const float logprob : logprobs) delta.tokens.push_back({.id = 1, .logprob = logprob});
  delta.finish = FinishReason::kStop;
  return delta;
}

/// Two prompts with three candidates each, in the order in which they end.
std::vector<Delta> Candidates() {
  return {Candidate(1, "long", {-1, -1, -1, -1}),
          Candidate(0, "short", {-2}),
          Candidate(5, "f", {-0.5F}),
          Candidate(3, "d", {-0.5F}),
          Candidate(2, "worst", {-3, -2}),
          Candidate(4, "e", {-0.25F})};
}

TEST(BestOfSinkTest, KeepsTheLikeliestPerTokenOfEachPrompt) {
  const auto kept = std::make_shared<KeptChoices>();
  BestOfSink sink({2, 3, 2, true}, kept);
  ResponseStart start;
  start.num_choices = 4;
  sink.OnStart(std::move(start));
  std::vector<Delta> all = Candidates();
  sink.OnDeltas(absl::MakeSpan(all).subspan(0, 4));
  EXPECT_TRUE(kept->texts.empty()) << "a better one may come";
  sink.OnDeltas(absl::MakeSpan(all).subspan(4));
  sink.OnEnd({});
  // The sum of "long" is below that of "short"; of equals the first goes first.
  EXPECT_THAT(kept->texts, ElementsAre("long", "short", "e", "d"));
  EXPECT_THAT(kept->num_tokens, ElementsAre(4, 1, 1, 1));
  EXPECT_EQ(kept->num_choices, 4);
  EXPECT_EQ(kept->ends, 1);
}

TEST(BestOfSinkTest, KeepsTokensFromWhoDidNotAskForThem) {
  const auto kept = std::make_shared<KeptChoices>();
  BestOfSink sink({2, 3, 1, false}, kept);
  std::vector<Delta> all = Candidates();
  sink.OnDeltas(absl::MakeSpan(all));
  sink.OnEnd({});
  EXPECT_THAT(kept->texts, ElementsAre("long", "e"));
  EXPECT_THAT(kept->num_tokens, ElementsAre(0, 0));
}

TEST(BestOfSinkTest, OfAnAnswerThatFailedNothingIsHandedOn) {
  const auto kept = std::make_shared<KeptChoices>();
  BestOfSink sink({2, 3, 1, true}, kept);
  std::vector<Delta> all = Candidates();
  sink.OnDeltas(absl::MakeSpan(all).subspan(0, 5));
  sink.OnEnd({CallError{absl::StatusCode::kInternal, "the engine failed", ""}, {}});
  EXPECT_TRUE(kept->texts.empty());
  EXPECT_TRUE(kept->failed);
  EXPECT_EQ(kept->ends, 1);
}

}  // namespace
}  // namespace penstock
