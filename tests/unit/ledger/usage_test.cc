// What tenants use: counted in a file that outlives the process, written to SQLite, restored from either.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/time/clock.h"
#include "fakes/temp_dir.h"
#include "ledger/state_backup.h"
#include "ledger/usage_book.h"
#include "ledger/usage_loop.h"
#include "ledger/usage_store.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class UsageTest : public testing::Test {
 protected:
  std::string dir() const { return dir_.path(); }
  std::unique_ptr<UsageLoop> Loop() {
    return UsageLoop::Start(dir(), {}, [this](bool failed, std::string_view line) {
      if (failed) complaint_ = std::string(line);
    });
  }
  void Count(const std::shared_ptr<UsageBook>& book, const std::string& tenant, int64_t prompt,
             int64_t output) {
    UsageMeter meter(book, tenant);
    meter.CountRequest(prompt);
    meter.CountRequest(prompt);  // once
    meter.CountOutput(output);
    meter.CountCached(1);
  }
  nlohmann::json Report(const std::string& tenant = "") {
    const auto text = UsageStore::Report(dir(), tenant, nullptr);
    EXPECT_TRUE(text.ok()) << text.status();
    return nlohmann::json::parse(text.value_or("{}"))["usage"];
  }

  TempDir dir_;
  std::string complaint_;
};

TEST_F(UsageTest, WhatAKilledProcessCountedIsThere) {
  const pid_t child = fork();
  if (child == 0) {
    const auto book = UsageBook::Open(dir());
    if (!book.ok()) _exit(1);
    for (int i = 0; i < 100; ++i) Count(*book, i % 2 == 0 ? "a" : "b", 10, i);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const auto report = Report();
  ASSERT_THAT(report, SizeIs(2));
  EXPECT_EQ(report[0]["tenant"], "a");
  EXPECT_EQ(report[0]["requests"], 50);
  EXPECT_EQ(report[0]["prompt_tokens"], 500);
  EXPECT_EQ(report[0]["completion_tokens"], 2450);
  EXPECT_EQ(report[1]["completion_tokens"], 2500);
  EXPECT_THAT(Report("b"), SizeIs(1));
  EXPECT_THAT(Report("c"), SizeIs(0));
}

TEST_F(UsageTest, FiguresGoOnOverRestartsAndWithoutEitherFile) {
  std::string server;
  {
    const auto loop = Loop();
    server = loop->book()->server_id();
    Count(loop->book(), "a", 10, 5);
    loop->book()->BeginWindow("a", absl::Now() + absl::Hours(1));
    Count(loop->book(), "a", 100, 5);
  }
  {  // both files
    const auto loop = Loop();
    EXPECT_EQ(loop->book()->server_id(), server);
    EXPECT_EQ(loop->book()->WindowOf("a").used, 105);
    Count(loop->book(), "a", 1, 1);
  }
  std::filesystem::remove(dir() + "/usage.0.live");
  {  // SQLite alone
    const auto loop = Loop();
    EXPECT_EQ(loop->book()->server_id(), server);
    EXPECT_EQ(loop->book()->WindowOf("a").used, 107);
    EXPECT_GT(loop->book()->WindowOf("a").end, absl::Now());
    Count(loop->book(), "a", 1, 1);
  }
  std::filesystem::remove(dir() + "/state.db");
  {  // the book alone
    const auto loop = Loop();
    EXPECT_EQ(loop->book()->WindowOf("a").used, 109);
  }
  EXPECT_EQ(Report()[0]["requests"], 4);
  EXPECT_EQ(Report()[0]["budget_used"], 109);
  EXPECT_EQ(complaint_, "");
}

TEST_F(UsageTest, ABackupThatIsMadeAtOnceHasTheWindowAndWhoseItIs) {
  const TempDir kept;
  const std::string copy = kept.path() + "/copy.db";
  {
    const auto loop = Loop();  // which writes to the state file in a second
    loop->book()->BeginWindow("a", absl::Now() + absl::Hours(1));
    Count(loop->book(), "a", 100, 5);
    ASSERT_TRUE(BackUpState(dir(), copy).ok());
  }
  for (const auto& file : std::filesystem::directory_iterator(dir())) std::filesystem::remove(file);
  std::filesystem::copy_file(copy, dir() + "/state.db");
  const auto loop = Loop();
  EXPECT_EQ(loop->book()->WindowOf("a").used, 105);
  EXPECT_GT(loop->book()->WindowOf("a").end, absl::Now());
}

TEST_F(UsageTest, ADamagedStateFileIsSaidAndCountingGoesOn) {
  {
    const auto loop = Loop();
    Count(loop->book(), "a", 10, 5);
  }
  std::ofstream(dir() + "/state.db") << std::string(8192, 'x');
  {
    const auto loop = Loop();
    EXPECT_THAT(complaint_, HasSubstr("state.db"));
    Count(loop->book(), "a", 10, 5);
  }
  EXPECT_EQ(Report()[0]["prompt_tokens"], 20);
}

TEST_F(UsageTest, ABookThatIsNoneIsMadeAnew) {
  {
    const auto loop = Loop();
    Count(loop->book(), "a", 10, 5);
  }
  const auto size = std::filesystem::file_size(dir() + "/usage.0.live");
  std::ofstream(dir() + "/usage.0.live") << std::string(size, 'x');
  const auto loop = Loop();
  EXPECT_EQ(loop->book()->Rows().front().totals.prompt_tokens, 10);
}

TEST_F(UsageTest, TwoServersOfOneFolderCountApart) {
  const auto one = UsageBook::Open(dir()), two = UsageBook::Open(dir());
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_NE((*one)->server_id(), (*two)->server_id());
  Count(*one, "a", 1, 0);
  Count(*two, "a", 2, 0);
  EXPECT_EQ(Report()[0]["prompt_tokens"], 3);
}

TEST_F(UsageTest, MoreTenantsThanThereIsRoomForShareALine) {
  const auto book = UsageBook::InMemory();
  for (int i = 0; i < 20000; ++i) Count(book, "tenant" + std::to_string(i), 1, 0);
  const auto rows = book->Rows();
  int64_t sum = 0;
  for (const UsageRow& row : rows) sum += row.totals.requests;
  EXPECT_EQ(sum, 20000);
  EXPECT_LT(rows.size(), 16384);
  // A budget is nobody else's.
  book->BeginWindow("tenant19999", absl::Now() + absl::Hours(1));
  EXPECT_EQ(book->WindowOf("tenant19998").used, 0);
}

TEST_F(UsageTest, ThreadsLoseNothing) {
  const auto book = UsageBook::InMemory();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) Count(book, "tenant" + std::to_string(i % 7), 1, 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t requests = 0, tokens = 0;
  for (const UsageRow& row : book->Rows()) {
    requests += row.totals.requests;
    tokens += row.totals.completion_tokens;
  }
  EXPECT_EQ(requests, 4000);
  EXPECT_EQ(tokens, 8000);
}

}  // namespace
}  // namespace penstock
