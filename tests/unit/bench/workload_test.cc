// What a scenario sends: arrivals, prompts, traces.
#include "bench/workload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/sanitizers.h"
#include "bench/target.h"
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

TEST(Workload, ThoughtsLastAsLongInTheMeanAsTheyAreToldTo) {
  Scenario scenario;
  scenario.endpoint = "chat";
  scenario.turns = 2;
  EXPECT_EQ((*Workload::Open(scenario))->ThinkTime(), 0);
  scenario.think_seconds = 3;
  const auto workload = Workload::Open(scenario);
  double sum = 0;
  for (int i = 0; i < 20000; ++i) sum += (*workload)->ThinkTime();
  EXPECT_NEAR(sum / 20000, 3, 0.15);
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

TEST(Workload, LeavesOutTimesThatAreNone) {
  const TraceFile trace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
      "infinite-past,5,5\n"
      "-1e308,5,5\n"
      "10,5,5\n"
      "1e308,5,5\n"
      "infinite-future,5,5\n"
      "12,5,5\n");
  auto reader = TraceReader::Open(trace.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<double> times;
  while (auto row = (*reader)->Next()) times.push_back(row->at);
  EXPECT_THAT(times, ::testing::ElementsAre(0, 2));
  EXPECT_EQ((*reader)->faults().unreadable, 4);
}

TEST(Workload, LeavesOutRowsThatAreTooLong) {
  const std::string longest =
      "12,5,5," + std::string(kMostTraceLine - 7, 'x');  // just short enough
  const TraceFile trace("TIMESTAMP,ContextTokens,GeneratedTokens\n10,5,5\n11,5,5," +
                        std::string(3 * kMostTraceLine, 'x') + "\n" + longest + "\n" + longest +
                        "x\n13,5,5\n14,5,5," + std::string(2 * kMostTraceLine, 'x'));
  auto reader = TraceReader::Open(trace.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<double> times;
  while (auto row = (*reader)->Next()) times.push_back(row->at);
  EXPECT_THAT(times, ::testing::ElementsAre(0, 2, 3));
  EXPECT_EQ((*reader)->faults().unreadable, 3);
  EXPECT_EQ((*reader)->faults().first_line, 3);

  const TraceFile endless("TIMESTAMP," + std::string(kMostTraceLine, 'x'));
  EXPECT_THAT(std::string(TraceReader::Open(endless.path()).status().message()),
              HasSubstr("trace.txt:1: expected names of columns in at most 1048576 bytes"));
}

constexpr int kLongTrace = kSanitized ? 300'000 : 3'000'000;
constexpr bool kCountsMemory = !kSanitized;  // sanitizers keep what is freed

TEST(Workload, TakesALongTraceARowAtATime) {
  constexpr int kRows = kLongTrace;
  const auto row_text = [](int i) { return std::to_string(1'000'000 + i) + ",1000,100\n"; };
  const size_t row_bytes = row_text(0).size();
  const TempDir dir;
  const std::string path = dir.path() + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::atomic<int64_t> written = 0;  // bytes that the pipe has taken
  std::atomic<int64_t> pipe_bytes = 0;
  std::thread writing([&] {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    pipe_bytes = fcntl(fd, F_GETPIPE_SZ);
    const auto write_all = [&](const std::string& text) {
      for (size_t done = 0; done < text.size();) {
        const ssize_t n = write(fd, text.data() + done, text.size() - done);
        if (n <= 0) return;
        done += static_cast<size_t>(n);
        written += n;
      }
    };
    write_all("TIMESTAMP,ContextTokens,GeneratedTokens\n");
    std::string rows;
    for (int i = 0; i < kRows; ++i) {
      rows += row_text(i);
      if (rows.size() < 4000 && i + 1 < kRows) continue;
      write_all(rows);
      rows.clear();
    }
    close(fd);
  });
  Scenario scenario;
  scenario.trace = path;
  scenario.requests = 1 << 30;
  int64_t rows = 0, most_held = 0, resident = 0, most_resident = 0;
  double last = -1;
  {
    std::signal(SIGPIPE, SIG_IGN);  // of who writes, where reading ends too early
    const auto workload = Workload::Open(scenario);
    EXPECT_TRUE(workload.ok()) << workload.status();
    while (const auto request = workload.ok() ? (*workload)->Next() : std::nullopt) {
      EXPECT_EQ(request->due, static_cast<double>(rows));
      last = request->due;
      ++rows;
      const int64_t taken = written - rows * static_cast<int64_t>(row_bytes);
      most_held = std::max(most_held, taken);
      if (rows == 1) resident = UseOfProcess(getpid()).rss_bytes;
      if (rows % 100'000 == 0)
        most_resident = std::max(most_resident, UseOfProcess(getpid()).rss_bytes);
    }
  }
  writing.join();
  EXPECT_EQ(rows, kRows);
  EXPECT_EQ(last, kRows - 1);
  // What was written and not yet given out lies in the pipe, but for the buffer of a file.
  EXPECT_LE(most_held, pipe_bytes + 32768);
  EXPECT_GT(written, 16 * (pipe_bytes + 32768));
  ASSERT_GT(resident, 0);
  if (kCountsMemory) {
    constexpr int64_t kGrowth = 4 << 20;  // bytes; the rows are 50 million
    EXPECT_GT(written, 8 * kGrowth);
    EXPECT_LT(most_resident - resident, kGrowth);
  }
}

TEST(Workload, ReplaysARecordedTrace) {
  const std::string path = PENSTOCK_SHARED_DATA "/traces/AzureLLMInferenceTrace_conv.csv";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no shared data at " << path;
  Scenario scenario;
  scenario.trace = path;
  scenario.requests = 200;
  const auto all = All(scenario);
  ASSERT_EQ(all.size(), 200u);
  // The same rows, read in another way.
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  double begin = -1;
  for (const PlannedRequest& request : all) {
    int hour = 0, minute = 0, prompt = 0, output = 0;
    double second = 0;
    ASSERT_TRUE(std::getline(file, line));
    ASSERT_EQ(std::sscanf(line.c_str(), "2023-11-16 %d:%d:%lf,%d,%d", &hour, &minute, &second,
                          &prompt, &output),
              5)
        << line;
    const double at = hour * 3600 + minute * 60 + second;
    if (begin < 0) begin = at;
    EXPECT_NEAR(request.due, at - begin, 1e-5);
    EXPECT_EQ(request.prompt_words, prompt);
    EXPECT_EQ(request.max_tokens, output);
  }
  EXPECT_GT(all.back().due, 10);
}

TEST(Workload, NamesAMissingColumn) {
  const TraceFile trace("TIMESTAMP,GeneratedTokens\n1,2\n");
  EXPECT_THAT(std::string(TraceReader::Open(trace.path()).status().message()),
              HasSubstr("no column ContextTokens"));
  EXPECT_FALSE(TraceReader::Open("/nowhere").ok());
}

}  // namespace
}  // namespace penstock
