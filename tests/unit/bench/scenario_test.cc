#include "bench/scenario.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/report.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(Scenario, LoadsEveryFileOfTheRepository) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(PENSTOCK_SOURCE_DIR "/benchmarks/serving")) {
    if (entry.path().extension() != ".yaml") continue;
    const auto loaded = LoadScenarios(entry.path().string());
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    ++count;
  }
  EXPECT_GT(count, 0);
}

TEST(Scenario, NamesAnUnknownKey) {
  Scenario scenario;
  EXPECT_EQ(std::string(SetScenarioField(scenario, "concurency", "3").message()),
            "concurency: unknown key, did you mean 'concurrency'?");
  EXPECT_FALSE(SetScenarioField(scenario, "rate", "fast").ok());
}

TEST(Scenario, RequestsShareThePrefixAndNothingElse) {
  Scenario scenario;
  scenario.prompt_words = 20;
  scenario.prefix_words = 10;
  const auto prompt = [&](int i) {
    return nlohmann::json::parse(RequestBody(scenario, "m", i))["prompt"].get<std::string>();
  };
  EXPECT_EQ(prompt(0).substr(0, 40), prompt(1).substr(0, 40));
  EXPECT_NE(prompt(0), prompt(1));
  EXPECT_EQ(prompt(1), prompt(1));
  EXPECT_EQ(prompt(0).size(), 80u);
}

TEST(Report, TakesTheNearestRank) {
  EXPECT_EQ(Quantile({4, 1, 3, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({4, 1, 3, 2}, 0.99), 4);
  EXPECT_EQ(Quantile({}, 0.5), 0);
}

TEST(Report, CountsOnlyWhatSucceeded) {
  LoadResult result;
  result.seconds = 2;
  result.requests.resize(2);
  result.requests[0].ok = true;
  result.requests[0].first = 0.5;
  result.requests[0].end = 1.5;
  result.requests[0].completion_tokens = 10;
  const LoadSummary summary = Summarize(result);
  EXPECT_EQ(summary.num_ok, 1);
  EXPECT_EQ(summary.num_failed, 1);
  EXPECT_DOUBLE_EQ(summary.output_tokens_per_second, 5);
  EXPECT_DOUBLE_EQ(summary.ttft_p50, 0.5);
}

}  // namespace
}  // namespace penstock
