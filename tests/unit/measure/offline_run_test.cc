// Throughput without a wire, on an engine without a model.
#include "measure/offline_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "fakes/fake_engine.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

OfflineOptions Small() {
  OfflineOptions options;
  options.requests = 9;
  options.prompt_tokens = 6;
  options.shared_tokens = 4;
  options.output_tokens = 3;
  return options;
}

TEST(OfflineRun, CountsWhatTheEngineDid) {
  FakeEngine engine;
  engine.Start();
  const auto result = RunOffline(engine, Small());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 9);
  EXPECT_EQ(result->num_failed, 0);
  EXPECT_EQ(result->output_tokens, 27);
  EXPECT_EQ(result->prompt_tokens, 54);
  EXPECT_GE(result->seconds, result->first_seconds);
  std::set<std::vector<TokenId>> prefixes, prompts;
  for (const GenerateRequest& request : engine.submitted()) {
    prefixes.emplace(request.prompt.begin(), request.prompt.begin() + 4);
    prompts.insert(request.prompt);
  }
  EXPECT_EQ(prefixes.size(), 1u);
  EXPECT_EQ(prompts.size(), 9u);
}

TEST(OfflineRun, FeedsAFullQueueAsItEmpties) {
  FakeEngine engine;
  engine.set_max_live(2);
  engine.Start();
  const auto result = RunOffline(engine, Small());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 9);
}

TEST(OfflineRun, ShowsRoundsBeforeOneThatFails) {
  FakeEngine engine;
  engine.Start();
  std::vector<int64_t> shown;
  const auto status = RunOfflineRounds(engine, Small(), 3, [&](int round, const OfflineResult& r) {
    shown.push_back(r.num_ok);
    if (round == 1) engine.set_submit_status(absl::UnavailableError("gone"));
  });
  EXPECT_EQ(status, absl::UnavailableError("gone"));
  EXPECT_EQ(shown, (std::vector<int64_t>{9, 9}));
  std::set<std::vector<TokenId>> prompts;
  for (const GenerateRequest& request : engine.submitted()) prompts.insert(request.prompt);
  EXPECT_EQ(prompts.size(), 18u) << "each round has its own";
}

TEST(OfflineRun, SaysWhatDoesNotFit) {
  FakeEngine engine;
  OfflineOptions options = Small();
  options.prompt_tokens = 1 << 20;
  EXPECT_THAT(std::string(RunOffline(engine, options).status().message()),
              HasSubstr("expected at most"));
}

}  // namespace
}  // namespace penstock
