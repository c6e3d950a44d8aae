// What a scenario sends: arrivals, prompts, traces.
#include "bench/workload.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fakes/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::vector<PlannedRequest> All(const Scenario& scenario) {
  auto workload = Workload::Open(scenario);
  EXPECT_TRUE(workload.ok()) << workload.status();
  std::vector<PlannedRequest> out;
  while (auto request = (*workload)->Next()) out.push_back(*std::move(request));
  return out;
}

std::string PromptOf(const Scenario& scenario, const PlannedRequest& request) {
  auto workload = Workload::Open(scenario);
  const auto body = nlohmann::json::parse((*workload)->Body(request, "m", nullptr));
  return body["prompt"].get<std::string>();
}

class TraceFile {
 public:
  explicit TraceFile(const std::string& text) : path_(dir_.Write("trace.txt", text)) {}
  const std::string& path() const { return path_; }

 private:
  const TempDir dir_;
  const std::string path_;
};

TEST(Workload, RequestsShareThePrefixAndNothingElse) {
  Scenario scenario;
  scenario.prompt_words = 20;
  scenario.prefix_words = 10;
  const std::vector<PlannedRequest> all = All(scenario);
  const std::string first = PromptOf(scenario, all[0]), second = PromptOf(scenario, all[1]);
  EXPECT_EQ(first.substr(0, 40), second.substr(0, 40));
  EXPECT_NE(first, second);
  EXPECT_EQ(second, PromptOf(scenario, all[1]));
  EXPECT_EQ(first.size(), 80u);
}

TEST(Workload, ArrivalsHaveTheirRateAndSpread) {
  Scenario scenario;
  scenario.requests = 20000;
  scenario.rate = 50;
  const auto spread = [&](const std::vector<PlannedRequest>& all) {
    double squares = 0;
    for (size_t i = 1; i < all.size(); ++i) {
      const double gap = (all[i].due - all[i - 1].due) * scenario.rate - 1;
      squares += gap * gap;
    }
    return squares / static_cast<double>(all.size() - 1);
  };
  const auto poisson = All(scenario);
  EXPECT_NEAR(poisson.back().due, 400, 20);
  EXPECT_NEAR(spread(poisson), 1, 0.1);  // of an exponential distribution: 1
  scenario.burstiness = 0.25;
  EXPECT_NEAR(spread(All(scenario)), 4, 0.8);
  scenario.burstiness = 1;
  scenario.burst = 10;
  const auto bursts = All(scenario);
  EXPECT_NEAR(bursts.back().due, 400, 40);
  EXPECT_EQ(bursts[0].due, bursts[9].due);
  EXPECT_LT(bursts[9].due, bursts[10].due);
}

TEST(Workload, ARampEndsAtItsRate) {
  Scenario scenario;
  scenario.requests = 20000;
  scenario.rate = 10;
  scenario.rate_end = 100;
  const auto all = All(scenario);
  EXPECT_NEAR(1000 / (all[1000].due - all[0].due), 12, 2);
  EXPECT_NEAR(1000 / (all[19999].due - all[18999].due), 98, 12);
}

TEST(Workload, ReplaysACsvTrace) {
  const TraceFile trace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
      "2023-11-16 18:15:46.6805900,374,44\n"
      "2023-11-16 18:15:50.9951690,396,109\n");
  Scenario scenario;
  scenario.trace = trace.path();
  scenario.trace_speed = 2;
  const auto all = All(scenario);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].due, 0);
  EXPECT_NEAR(all[1].due, 4.314579 / 2, 1e-6);
  EXPECT_EQ(all[1].prompt_words, 396);
  EXPECT_EQ(all[1].max_tokens, 109);
}

TEST(Workload, BlocksOfATraceAreSharedText) {
  const TraceFile trace(
      R"({"timestamp": 5000, "input_length": 1100, "output_length": 3, "hash_ids": [7, 8, 9]})"
      "\n"
      R"({"timestamp": 6500, "input_length": 1100, "output_length": 3, "hash_ids": [7, 8, 10]})");
  Scenario scenario;
  scenario.trace = trace.path();
  const auto all = All(scenario);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_NEAR(all[1].due, 1.5, 1e-9);
  const std::string a = PromptOf(scenario, all[0]), b = PromptOf(scenario, all[1]);
  EXPECT_EQ(a.substr(0, 1024 * 4), b.substr(0, 1024 * 4));
  EXPECT_NE(a.substr(1024 * 4), b.substr(1024 * 4));
  EXPECT_EQ(a.size(), 4400u);
}

TEST(Workload, CountsRowsOfATraceThatAreWrong) {
  const TraceFile trace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
      "10,5,5\n"
      "\n"
      "11,,5\n"     // a hole
      "12,5,-1\n"   // a negative length
      "-3,5,5\n"    // before the first
      "soon,5,5\n"  // no time
      "13,5\n"      // cut
      "14,5,5,extra\n"
      "15,nan,5\n");
  auto reader = TraceReader::Open(trace.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<double> times;
  while (auto row = (*reader)->Next()) times.push_back(row->at);
  EXPECT_THAT(times, ::testing::ElementsAre(0, 0, 4));
  EXPECT_EQ((*reader)->faults().unreadable, 5);
  EXPECT_EQ((*reader)->faults().out_of_order, 1);
  EXPECT_EQ((*reader)->faults().first_line, 4);
}

TEST(Workload, NamesAMissingColumn) {
  const TraceFile trace("TIMESTAMP,GeneratedTokens\n1,2\n");
  EXPECT_THAT(std::string(TraceReader::Open(trace.path()).status().message()),
              HasSubstr("no column ContextTokens"));
  EXPECT_FALSE(TraceReader::Open("/nowhere").ok());
}

}  // namespace
}  // namespace penstock
