// The load generator against a server that behaves as told.
#include "bench/load_run.h"

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "bench/summary.h"
#include "bench/workload.h"
#include "fakes/scripted_load.h"
#include "fakes/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(RunLoad, AsksAgainWhereAKeptConnectionWasClosed) {
  absl::StatusOr<LoadResult> result = LoadResult();
  // A busy machine may see the end too late to call it a race: that is a failure, and tried again.
  for (int attempt = 0; attempt < 50 && result->num_ok < 3; ++attempt) {
    result = RunAgainst(Requests(3), [](const ScriptedServer& server) {
      int client = server.Accept();
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
      ScriptedServer::Say(client, Answer(kGood));
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
      close(client);  // without a word
      client = server.Accept();
      while (ScriptedServer::ReadRequest(client)) ScriptedServer::Say(client, Answer(kGood));
      close(client);
    });
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->asked_again + result->num_failed, 1);
  }
  EXPECT_EQ(result->first_failure, "");
  EXPECT_EQ(result->num_ok, 3);
  EXPECT_EQ(result->asked_again, 1);
  EXPECT_THAT(SummaryNotes(*result), HasSubstr("asked again: 1 "));
  EXPECT_EQ(RunJson(Requests(3), "t", 0, *result)["result"]["asked_again"], 1);
  EXPECT_EQ(result->completion_tokens, 12);
  EXPECT_EQ(result->ttft.count(), 3);
}

TEST(RunLoad, CountsAResetOfAKeptConnectionThatHadTheRequest) {
  for (const bool at_once : {true, false}) {  // RST or FIN
    const auto result = RunAgainst(Requests(2), [&](const ScriptedServer& server) {
      const int client = server.Accept();
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
      ScriptedServer::Say(client, Answer(kGood));
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      at_once ? ScriptedServer::Reset(client) : (void)close(client);
    });
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->failures, ElementsAre(Pair("reset", 1)));
    EXPECT_EQ(result->num_ok, 1);
    EXPECT_EQ(result->asked_again, 0);
  }
}

// What the first of two requests gets, and the kind of failure that it must be counted as.
struct FaultCase {
  const char* kind;
  std::string bytes;
  bool stream = false;
  bool hang_up = true;  // after the bytes; or the connection goes on
  bool ignore_eos = true;
};

void PrintTo(const FaultCase& of, std::ostream* out) { *out << of.kind; }

std::string Stream(std::string_view events) {
  return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
         [&] {
           char size[16];
           std::snprintf(size, sizeof size, "%zx\r\n", events.size());
           return std::string(size);
         }() +
         std::string(events) + "\r\n0\r\n\r\n";
}

const std::string kUsageEvent =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
const std::string kTextEvent = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";

class LoadFaults : public ::testing::TestWithParam<FaultCase> {};

TEST_P(LoadFaults, AreCountedByKindAndNeverAsSuccess) {
  const FaultCase& of = GetParam();
  const std::string good =
      of.stream ? Stream(kTextEvent + kUsageEvent + "data: [DONE]\n\n") : Answer(kGood);
  Scenario scenario = Requests(2, of.stream);
  scenario.ignore_eos = of.ignore_eos;
  const auto result = RunAgainst(scenario, [&](const ScriptedServer& server) {
    int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    if (!of.bytes.empty()) ScriptedServer::Say(client, of.bytes);
    if (of.hang_up) {
      of.bytes.empty() ? ScriptedServer::Reset(client) : (void)close(client);
      client = server.Accept();
    }
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    ScriptedServer::Say(client, good);
    close(client);
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 1);
  EXPECT_THAT(result->failures, ElementsAre(Pair(of.kind, 1)));
  EXPECT_THAT(result->first_failure, HasSubstr(of.kind));
  EXPECT_EQ(result->e2e.count(), 1);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, LoadFaults,
    ::testing::Values(
        FaultCase{"reset", ""}, FaultCase{"not_http", "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
        FaultCase{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"choices\""},
        FaultCase{"cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\ndata: {",
                  true},
        FaultCase{"http_503", Answer("{\"error\":{}}", 503), false, false},
        FaultCase{"bad_json", Answer("{\"choices\":[}"), false, false},
        FaultCase{"bad_json", Stream("data: {\"choices\":\n\ndata: [DONE]\n\n"), true, false},
        FaultCase{"error_event",
                  Stream("data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n"), true, false},
        FaultCase{"no_done", Stream(kTextEvent + kUsageEvent), true, false},
        FaultCase{"no_usage", Stream(kTextEvent + "data: [DONE]\n\n"), true, false},
        FaultCase{"wrong_length",
                  Answer(R"({"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}})"),
                  false, false},
        FaultCase{"wrong_length",
                  Answer(R"({"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":5}})"),
                  false, false, false},
        FaultCase{"wrong_usage",
                  Stream(kTextEvent + kTextEvent + kTextEvent + kTextEvent + kTextEvent +
                         kUsageEvent + "data: [DONE]\n\n"),
                  true, false},
        FaultCase{"wrong_usage",
                  Answer(R"({"choices":[{"text":"a"}],)"
                         R"("usage":{"prompt_tokens":1,"completion_tokens":0}})"),
                  false, false, false},
        FaultCase{"cut", "HTTP/1.1 200 OK\r\n"},
        FaultCase{"bad_json", "HTTP/1.1 200 OK\r\n\r\n{\"choices\":["},
        FaultCase{"no_done", "HTTP/1.1 200 OK\r\n\r\n" + kTextEvent + kUsageEvent, true},
        FaultCase{"empty", Answer("{\"object\":\"x\"}"), false, false}));

TEST(RunLoad, PiecesWithoutTextAreNoTokens) {
  // Four tokens, one without text of its own; a role, an empty piece and a reason to end beside.
  const std::string empty = "data: {\"choices\":[{\"text\":\"\"}]}\n\n";
  const std::string role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
  const std::string end = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n";
  const auto result = RunAgainst(Requests(1, true), [&](const ScriptedServer& server) {
    const int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    ScriptedServer::Say(client, Stream(role + kTextEvent + empty + kTextEvent + kTextEvent + empty +
                                       end + kUsageEvent + "data: [DONE]\n\n"));
    close(client);
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->first_failure, "");
  EXPECT_EQ(result->num_ok, 1);
  EXPECT_EQ(result->pieces, 3);
}

TEST(RunLoad, FewerTokensThanMostAreAllowedWhereTheModelMayEnd) {
  Scenario scenario = Requests(1);
  scenario.max_tokens = 5;
  scenario.ignore_eos = false;
  const auto result = RunAgainst(scenario, [](const ScriptedServer& server) {
    const int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    ScriptedServer::Say(client, Answer(kGood));
    close(client);
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 1);
}

TEST(RunLoad, TakesAnswersThatEndWhereTheConnectionDoes) {
  for (const bool stream : {false, true}) {
    const std::string body = stream ? kTextEvent + kUsageEvent + "data: [DONE]\n\n" : kGood;
    Scenario scenario = Requests(2, stream);
    scenario.model = "";  // asked for, in the same way
    const auto result = RunAgainst(scenario, [&](const ScriptedServer& server) {
      for (int i = 0; i < 3; ++i) {
        const int client = server.Accept();
        EXPECT_TRUE(ScriptedServer::ReadRequest(client, i == 0 ? '\n' : '}'));
        ScriptedServer::Say(
            client, "HTTP/1.1 200 OK\r\n\r\n" + (i == 0 ? R"({"data":[{"id":"m"}]})" : body));
        close(client);
      }
    });
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->first_failure, "");
    EXPECT_EQ(result->num_ok, 2);
    EXPECT_EQ(result->completion_tokens, 8);
  }
}

TEST(RunLoad, EndsRequestsThatHang) {
  Scenario scenario = Requests(2);
  absl::StatusOr<LoadResult> result = LoadResult();
  // A busy machine may not answer the second in time either: it is given more.
  for (double& t = scenario.request_timeout = 0.2; t < 20 && result->num_ok == 0; t *= 2) {
    result = RunAgainst(scenario, [](const ScriptedServer& server) {
      const int silent = server.Accept();
      const int client = server.Accept();  // the next request, when the first has been given up
      if (ScriptedServer::ReadRequest(client)) ScriptedServer::Say(client, Answer(kGood));
      for (const int one : {silent, client}) close(one);
    });
    ASSERT_TRUE(result.ok()) << result.status();
  }
  EXPECT_THAT(result->failures, ElementsAre(Pair("timeout", 1)));
  EXPECT_EQ(result->num_ok, 1);
}

TEST(RunLoad, EndsWithItsOwnTimeWhereAServerHangs) {
  Scenario scenario = Requests(3);
  scenario.concurrency = 2;
  scenario.timeout_seconds = 1;
  const auto result = RunAgainst(scenario, [](const ScriptedServer& server) {
    for (const int silent : {server.Accept(), server.Accept()}) {
      EXPECT_TRUE(ScriptedServer::ReadRequest(silent));
      EXPECT_FALSE(ScriptedServer::ReadRequest(silent));  // until the client hangs up
      close(silent);
    }
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->out_of_time);
  EXPECT_THAT(result->failures, ElementsAre(Pair("timeout", 2)));
  EXPECT_EQ(result->first_failure, "timeout: no end within timeout_seconds");
  EXPECT_EQ(result->num_failed, 2);
  EXPECT_EQ(result->num_ok, 0);
  EXPECT_GE(result->seconds, 1);
}

TEST(RunLoad, LooksUpWhileMoreIsDueThanItCanSend) {
  // More than any machine writes in a second; each fails at once, as nobody listens.
  constexpr int kRows = 2'000'000;
  const TempDir dir;
  Scenario scenario = Requests(kRows);
  scenario.trace = dir.path() + "/trace.csv";
  {
    std::ofstream trace(scenario.trace);
    trace << "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    for (int i = 0; i < kRows; ++i) trace << "5,1000,4\n";
  }
  scenario.timeout_seconds = 1;
  Target target;
  target.port = static_cast<uint16_t>(ScriptedServer().port());  // closed again
  const auto result = RunLoad(scenario, target);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->out_of_time);
  EXPECT_LT(result->num_failed, kRows);
  EXPECT_EQ(result->failures.count("connect"), 1u) << "sockets were looked at";
}

TEST(RunLoad, DoesNotWaitForAListOfModelsForLongerThanForAnAnswer) {
  Scenario scenario = Requests(1);
  scenario.model = "";
  scenario.request_timeout = 0.2;
  const auto result = RunAgainst(scenario, [](const ScriptedServer& server) {
    const int silent = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(silent, '\n'));
    ScriptedServer::Say(silent, "HTTP/1.1 200 OK\r\n");
    EXPECT_FALSE(ScriptedServer::ReadRequest(silent));  // until the client hangs up
    close(silent);
  });
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("/v1/models: no answer within 200ms"));
}

/// What comes of one request that is answered in some milliseconds.
int64_t GoodUnder(const LatencyGoal& goal) {
  Scenario scenario = Requests(1, /*stream=*/true);
  scenario.goal = goal;
  const auto result = RunAgainst(scenario, [](const ScriptedServer& server) {
    const int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    ScriptedServer::Say(client, Stream(kTextEvent + kTextEvent + kTextEvent + kTextEvent +
                                       kUsageEvent + "data: [DONE]\n\n"));
    close(client);
  });
  EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 1) << result->first_failure;
  return result->num_good;
}

TEST(RunLoad, CallsGoodWhatKeepsEveryGoal) {
  constexpr double kNever = 1e-9, kAlways = 1e6;
  EXPECT_EQ(GoodUnder({}), 1);
  EXPECT_EQ(GoodUnder({kAlways, kAlways, kAlways}), 1);
  EXPECT_EQ(GoodUnder({kNever, kAlways, kAlways}), 0) << "ttft";
  EXPECT_EQ(GoodUnder({kAlways, kNever, kAlways}), 0) << "tpot";
  EXPECT_EQ(GoodUnder({kAlways, kAlways, kNever}), 0) << "e2e";
}

TEST(RunLoad, ChargesTheServerForThoseWhoWaitedToBeSent) {
  // Both are due at once; the server answers one connection after the other.
  Scenario scenario = Requests(2);
  scenario.rate = 1000;
  scenario.burst = 2;
  const auto result = RunAgainst(scenario, [](const ScriptedServer& server) {
    int clients[2];
    for (int& client : clients) {
      client = server.Accept();
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    }
    for (const int client : clients) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      ScriptedServer::Say(client, Answer(kGood));
    }
    for (const int client : clients) close(client);
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 2);
  EXPECT_GE(result->e2e.Quantile(0), 0.1);
  EXPECT_GE(result->e2e.Quantile(1), 0.2);
}

TEST(RunLoad, WhoIsAnsweredThinksBeforeTheNextQuestion) {
  Scenario scenario = Requests(2);
  scenario.endpoint = "chat";
  scenario.turns = 2;
  scenario.think_seconds = 0.1;
  // The first thought of a run is its workload's; a seed by which it is long enough to be seen.
  double thought = 0;
  while (thought < 0.2) {
    ++scenario.seed;
    thought = (*Workload::Open(scenario))->ThinkTime();
  }
  double gap = 0;
  const auto result = RunAgainst(scenario, [&](const ScriptedServer& server) {
    const int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    const auto answered = std::chrono::steady_clock::now();
    ScriptedServer::Say(client, Answer(kGood));
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    gap = std::chrono::duration<double>(std::chrono::steady_clock::now() - answered).count();
    ScriptedServer::Say(client, Answer(kGood));
    close(client);
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 2);
  EXPECT_GE(gap, thought);
  EXPECT_GE(result->seconds, thought);
}

TEST(RunLoad, ConversationsSayWhatWasSaid) {
  Scenario scenario = Requests(2);
  scenario.endpoint = "chat";
  scenario.turns = 2;
  scenario.prompt_words = 2;
  std::string second;
  const auto result = RunAgainst(scenario, [&](const ScriptedServer& server) {
    const int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    ScriptedServer::Say(client, Answer(R"({"choices":[{"message":{"content":"my word"}}],)"
                                       R"("usage":{"prompt_tokens":3,"completion_tokens":4}})"));
    char buffer[4096];
    while (second.find("\"stream\"") == second.npos) {
      const ssize_t n = read(client, buffer, sizeof buffer);
      if (n <= 0) break;
      second.append(buffer, static_cast<size_t>(n));
    }
    ScriptedServer::Say(client, Answer(kGood));
    close(client);
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_ok, 2);
  EXPECT_THAT(second, HasSubstr(R"({"content":"my word","role":"assistant"})"));
}

TEST(RunLoad, SaysWhereNobodyAnswers) {
  Target target;
  target.port = static_cast<uint16_t>(ScriptedServer().port());  // closed again
  Scenario scenario = Requests(1);
  scenario.model = "";
  const auto result = RunLoad(scenario, target);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("no server answers on 127.0.0.1:"));
}

}  // namespace
}  // namespace penstock
