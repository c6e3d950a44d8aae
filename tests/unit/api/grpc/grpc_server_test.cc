// gRPC over a loopback port, on a fake engine.
#include "api/grpc/grpc_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/grpc_talk.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateRequest Ask(const std::string& prompt, int64_t max_tokens) {
  v1::GenerateRequest request;
  request.set_prompt(prompt);
  request.set_max_tokens(max_tokens);
  request.set_add_special_tokens(false);
  return request;
}

TEST(Grpc, GeneratesAtOnce) {
  GrpcTalk talk;
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "mine");
  v1::GenerateResponse response;
  v1::GenerateRequest request = Ask("abc", 5);
  request.set_n(2);
  request.set_logprobs(1);
  request.set_return_token_ids(true);
  request.set_temperature(0.5);
  (*request.mutable_logit_bias())[7] = -3;
  const grpc::Status status = talk.stub->Generate(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.choices_size(), 2);
  EXPECT_EQ(response.choices(1).text(), "abcab");
  EXPECT_EQ(response.choices(1).index(), 1);
  EXPECT_EQ(response.choices(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_THAT(response.choices(0).token_ids(), ElementsAre(97, 98, 99, 97, 98));
  EXPECT_EQ(response.choices(0).logprobs_size(), 5);
  EXPECT_EQ(response.choices(0).logprobs(0).top_size(), 1);
  EXPECT_EQ(response.usage().prompt_tokens(), 3);
  EXPECT_EQ(response.usage().completion_tokens(), 10);
  EXPECT_EQ(response.id(), "mine");
  const GenerateRequest seen = talk.engine.submitted()[0];
  EXPECT_EQ(seen.sampling.temperature, 0.5f);
  EXPECT_THAT(seen.sampling.logit_bias, ElementsAre(std::pair<TokenId, float>(7, -3.0f)));
}

TEST(Grpc, StreamsPiecesAndThenTheUsage) {
  GrpcTalk talk(FakeEngine::Always(Ids("hello STOP rest")));
  grpc::ClientContext context;
  v1::GenerateRequest request = Ask("x", 40);
  request.add_stop("STOP");
  const auto reader = talk.stub->GenerateStream(&context, request);
  v1::GenerateResponse piece;
  std::string text, stop;
  int64_t completion_tokens = 0;
  while (reader->Read(&piece)) {
    for (const v1::Choice& choice : piece.choices()) {
      text += choice.text();
      stop += choice.stop_string();
    }
    completion_tokens += piece.usage().completion_tokens();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "hello ");
  EXPECT_EQ(stop, "STOP");
  EXPECT_EQ(completion_tokens, 10);
  EXPECT_EQ(talk.metrics.generation_tokens.value(), 10);
}

TEST(Grpc, RefusesWithTheCodesOfTheTable) {
  GrpcTalk talk;
  const auto code = [&](v1::GenerateRequest request, std::string* field = nullptr) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::StatusCode code = talk.stub->Generate(&context, request, &response).error_code();
    if (field != nullptr) *field = FieldAtFault(context);
    return code;
  };
  v1::GenerateRequest request = Ask("x", 1);
  request.set_temperature(3);
  std::string field;
  EXPECT_EQ(code(request, &field), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(field, "temperature");
  request.set_temperature(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(code(request, &field), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code({}, &field), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(field, "prompt");
  request = Ask("x", 1);
  request.set_model("none");
  EXPECT_EQ(code(request), grpc::StatusCode::NOT_FOUND);
  request = Ask("x", 1);
  request.mutable_prompt_ids()->add_ids(-4);
  EXPECT_EQ(code(request, &field), grpc::StatusCode::INVALID_ARGUMENT);
  talk.engine.set_submit_status(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(code(Ask("x", 1)), grpc::StatusCode::RESOURCE_EXHAUSTED);
  talk.service->set_phase(ServingPhase::kDraining);
  EXPECT_EQ(code(Ask("x", 1)), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(talk.catalogue.Text(), HasSubstr("penstock_requests_total{code=\"400\"} 4\n"));
}

TEST(Grpc, AsksForTheKeyInTheMetadata) {
  GrpcTalk talk(FakeEngine::Repeat, {}, {"secret"});
  v1::GenerateResponse response;
  v1::ListModelsResponse models;
  grpc::ClientContext without, with, list;
  EXPECT_EQ(talk.stub->Generate(&without, Ask("x", 1), &response).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(talk.stub->ListModels(&list, {}, &models).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  with.AddMetadata("authorization", "Bearer secret");
  EXPECT_TRUE(talk.stub->Generate(&with, Ask("x", 1), &response).ok());
}

TEST(Grpc, ACancelledStreamCancelsTheRequest) {
  GrpcTalk talk(FakeEngine::Repeat, {}, {}, false);
  grpc::ClientContext context;
  const auto reader = talk.stub->GenerateStream(&context, Ask("x", 1000));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  v1::GenerateResponse piece;
  ASSERT_TRUE(reader->Read(&piece));
  context.TryCancel();
  while (talk.engine.num_cancelled() == 0) std::this_thread::yield();
  talk.engine.Step();
  EXPECT_EQ(talk.engine.num_live(), 0);
  EXPECT_EQ(talk.log.Wait(1).at(0).code, 499);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(Grpc, ACallsDeadlineIsTheRequests) {
  GrpcTalk talk(FakeEngine::Repeat, {}, {}, false);
  absl::Time submitted;
  const absl::Duration timeout = WithDeadlines(talk.engine, [&](grpc::ClientContext& context) {
    const auto reader = talk.stub->GenerateStream(&context, Ask("x", 1000));
    while (talk.engine.submitted().empty() && context.deadline() > std::chrono::system_clock::now())
      std::this_thread::yield();
    submitted = SystemClock::Get().Now();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  const auto deadline = talk.engine.submitted()[0].deadline;
  ASSERT_TRUE(deadline);
  EXPECT_LE(*deadline, submitted + timeout);
  while (talk.engine.num_cancelled() == 0) std::this_thread::yield();
  talk.engine.StepUntilIdle();
}

TEST(Grpc, ASlowReaderIsBounded) {
  LimitsSection limits;
  limits.stream_buffer = {20'000};
  limits.write_stall = absl::Milliseconds(100);
  GrpcTalk talk(FakeEngine::Repeat, limits);
  talk.model->max_context = 4'000'000;
  grpc::ClientContext context;
  const auto reader = talk.stub->GenerateStream(&context, Ask("x", 3'000'000));
  EXPECT_TRUE(talk.engine.WaitFor(
      [](size_t submitted, size_t live) { return submitted == 1 && live == 0; }));
  talk.log.Wait(1);  // written once the metrics are
  EXPECT_EQ(talk.metrics.cancelled_slow_reader.value() + talk.metrics.cancelled_disconnect.value(),
            1);
  v1::GenerateResponse piece;
  while (reader->Read(&piece)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST(Grpc, ListsModelsAndConvertsTokens) {
  GrpcTalk talk;
  grpc::ClientContext list, encode, decode, bad;
  v1::ListModelsResponse models;
  ASSERT_TRUE(talk.stub->ListModels(&list, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).id(), "demo");
  EXPECT_THAT(models.models(0).aliases(), ElementsAre("alias"));
  v1::TokenizeRequest text;
  text.set_text("AB");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(talk.stub->Tokenize(&encode, text, &ids).ok());
  EXPECT_THAT(ids.ids(), ElementsAre(256, 65, 66));
  EXPECT_EQ(ids.token_strs_size(), 0);
  grpc::ClientContext with_texts;
  text.set_return_token_strs(true);
  text.set_add_special_tokens(false);
  ASSERT_TRUE(talk.stub->Tokenize(&with_texts, text, &ids).ok());
  EXPECT_THAT(ids.token_strs(), ElementsAre("A", "B"));
  v1::DetokenizeRequest tokens;
  tokens.add_ids(65);
  v1::DetokenizeResponse back;
  ASSERT_TRUE(talk.stub->Detokenize(&decode, tokens, &back).ok());
  EXPECT_EQ(back.text(), "A");
  tokens.add_ids(1000);
  EXPECT_EQ(talk.stub->Detokenize(&bad, tokens, &back).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(Grpc, ASecondServerOnThePortIsAnError) {
  GrpcTalk talk;
  const auto second =
      GrpcServer::Start({"127.0.0.1:" + std::to_string(talk.server->port())}, talk.service.get());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST(Grpc, DrainLetsACallEnd) {
  GrpcTalk talk(FakeEngine::Repeat, {}, {}, false);
  grpc::ClientContext context;
  const auto reader = talk.stub->GenerateStream(&context, Ask("x", 3));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  std::thread drain([&] { talk.server->Drain(absl::Seconds(30)); });
  talk.engine.StepUntilIdle();
  v1::GenerateResponse piece;
  int64_t tokens = 0;
  while (reader->Read(&piece)) tokens += piece.usage().completion_tokens();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 3);
  drain.join();
}

}  // namespace
}  // namespace penstock
