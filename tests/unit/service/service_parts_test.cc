// The smaller parts of the service: keys, ids, the table of fields, the text workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <latch>
#include <limits>
#include <set>
#include <sstream>

#include "service/call_error.h"
#include "service/call_fields.h"
#include "service/ids.h"
#include "service/text_loop.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

TEST(Ids, AreCleanedAndDiffer) {
  EXPECT_EQ(CleanRequestId("a-b_c.1:2"), "a-b_c.1:2");
  EXPECT_EQ(CleanRequestId("a\r\nSet-Cookie: x"), "aSet-Cookie:x");
  EXPECT_EQ(CleanRequestId(std::string(500, 'a')).size(), 128);
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(MakeRequestId());
  EXPECT_EQ(ids.size(), 1000);
}

TEST(CallFields, AreListedOncePerSurfaceWithADescription) {
  for (Surface surface : {kCompletions, kChat, kGrpcGenerate, kGrpcChat, kEmbeddings, kGrpcEmbed,
                          kRerank, kMessages, kResponses, kTokenize, kDetokenize, kLoadAdapter,
                          kUnloadAdapter, kGrpcTokenize, kGrpcDetokenize}) {
    std::set<std::string_view> names;
    for (const CallField& field : CallFields()) {
      EXPECT_FALSE(field.doc.empty()) << field.name;
      if ((field.surfaces & surface) == 0) continue;
      EXPECT_TRUE(names.insert(field.name).second) << field.name;
      EXPECT_EQ(FindCallField(field.name, surface), &field);
    }
  }
  EXPECT_EQ(FindCallField("echo", kChat), nullptr);
}

TEST(CallFields, AreAllOnTheGeneratedPage) {
  const std::string page = CallFieldsMarkdown();
  for (const CallField& field : CallFields())
    EXPECT_THAT(page, HasSubstr("| `" + std::string(field.name) + "` | "));
  std::ifstream file(PENSTOCK_SOURCE_DIR "/docs/api.md");
  std::stringstream committed;
  committed << file.rdbuf();
  EXPECT_EQ(committed.str(), page) << "run: penstock check-config --api > docs/api.md";
}

TEST(CallFields, AreNotRefusedAsWell) {
  for (const UnsupportedField& field : UnsupportedFields()) {
    for (Surface surface : {kCompletions, kChat}) {
      if ((field.surfaces & surface) == 0) continue;
      EXPECT_EQ(FindCallField(field.name, surface), nullptr) << field.name;
    }
  }
}

TEST(CallFields, RangesRefuseWhatIsNoNumber) {
  GenerationCall call;
  EXPECT_TRUE(CheckFieldRanges(call).ok());
  for (double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -0.5}) {
    call.temperature = bad;
    EXPECT_EQ(FieldOf(CheckFieldRanges(call)), "temperature") << bad;
  }
  call.temperature = 2;
  EXPECT_TRUE(CheckFieldRanges(call).ok());
}

TEST(CallFields, MessagesSayWhatIsExpected) {
  GenerationCall call;
  call.top_p = 0;
  EXPECT_EQ(CheckFieldRanges(call).message(), "top_p must be a number in (0, 1], got 0");
}

TEST(CallErrors, ShowNamesOfClientsCutBetweenCharacters) {
  EXPECT_EQ(Shown("demo"), "demo");
  EXPECT_EQ(Shown(std::string(128, 'x')), std::string(128, 'x'));
  EXPECT_EQ(Shown(std::string(1'000'000, 'x')), std::string(128, 'x') + "...");
  EXPECT_EQ(Shown("ab\xC3\xA4", 3), "ab...");
  EXPECT_EQ(Shown("a\xC3\xA4\xC3\xB6", 3), "a\xC3\xA4...");
}

TEST(CallErrors, MapToTheStatusesOfTheTable) {
  EXPECT_EQ(HttpStatus(absl::StatusCode::kInvalidArgument), 400);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kUnauthenticated), 401);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kPermissionDenied), 403);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kNotFound), 404);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kDeadlineExceeded), 408);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kResourceExhausted), 429);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kInternal), 500);
  EXPECT_EQ(HttpStatus(absl::StatusCode::kUnavailable), 503);
}

TEST(TextLoop, RefusesCallsOverTheBoundAndKeepsAWorkerForStreams) {
  TextLoop loop(2, 1);
  std::latch started(1), release(1), ran(1);
  ASSERT_TRUE(loop.TryCall([&] {
    started.count_down();
    release.wait();
  }));
  started.wait();
  std::atomic<bool> second{false};
  ASSERT_TRUE(loop.TryCall([&] { second = true; }));
  EXPECT_FALSE(loop.TryCall([] {}));
  struct Task : TextTask {
    explicit Task(std::latch* ran) : ran(ran) {}
    void Run() override { ran->count_down(); }
    std::latch* ran;
  };
  loop.Schedule(std::make_shared<Task>(&ran));
  ran.wait();
  EXPECT_FALSE(second);
  release.count_down();
  loop.Stop();
  EXPECT_TRUE(second);
  EXPECT_FALSE(loop.TryCall([] {}));
}

TEST(TextLoop, CallsThatWaitStopNobodyElse) {
  TextLoop loop(2, 100);
  std::latch all(TextLoop::kMaxWaits), release(1), ran(2), back(TextLoop::kMaxWaits);
  for (size_t i = 0; i < TextLoop::kMaxWaits; ++i) {
    ASSERT_TRUE(loop.TryCall([&] {
      {
        const TextLoop::Wait wait(loop);
        EXPECT_TRUE(wait.granted());
        all.count_down();
        release.wait();
      }
      back.count_down();
    }));
  }
  all.wait();
  struct Task : TextTask {
    explicit Task(std::latch* ran) : ran(ran) {}
    void Run() override { ran->count_down(); }
    std::latch* ran;
  };
  loop.Schedule(std::make_shared<Task>(&ran));
  ASSERT_TRUE(loop.TryCall([&] {
    EXPECT_FALSE(TextLoop::Wait(loop).granted());
    ran.count_down();
  }));
  ran.wait();
  release.count_down();
  back.wait();
  std::latch again(1);
  ASSERT_TRUE(loop.TryCall([&] {
    EXPECT_TRUE(TextLoop::Wait(loop).granted());
    again.count_down();
  }));
  again.wait();
}

}  // namespace
}  // namespace penstock
