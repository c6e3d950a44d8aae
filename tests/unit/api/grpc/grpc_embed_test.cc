// Embeddings and models over gRPC, on a fake engine; what all calls share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/grpc_talk.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GrpcEmbed : public ::testing::Test {
 protected:
  explicit GrpcEmbed(bool start_engine = true) : talk_(FakeEngine::Repeat, {}, {}, start_engine) {
    talk_.model->normalize = false;
    talk_.model->embedding_size = 3;
    // Its length, its first id, its last id.
    talk_.engine.set_hidden([](const GenerateRequest& request) {
      return std::vector<float>{static_cast<float>(request.prompt.size()),
                                static_cast<float>(request.prompt.front()),
                                static_cast<float>(request.prompt.back())};
    });
  }
  static v1::EmbedRequest Texts(std::initializer_list<const char*> texts) {
    v1::EmbedRequest request;
    for (const char* text : texts) request.add_input()->set_text(text);
    return request;
  }
  /// The field that a refusal names.
  std::string Refuse(const v1::EmbedRequest& request,
                     grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT) {
    grpc::ClientContext context;
    v1::EmbedResponse response;
    const grpc::Status status = talk_.stub->Embed(&context, request, &response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(FieldAtFault(context)));
    return FieldAtFault(context);
  }

  GrpcTalk talk_;
};

class GrpcEmbedHeld : public GrpcEmbed {
 protected:
  GrpcEmbedHeld() : GrpcEmbed(false) {}
};

TEST_F(GrpcEmbed, AnswersInTheOrderOfTheInputs) {
  v1::EmbedRequest request = Texts({"ab", "c"});
  for (const int id : {7, 8, 9}) request.add_input()->mutable_ids()->add_ids(id);
  for (const int id : {7, 8}) request.mutable_input(2)->mutable_ids()->add_ids(id);
  request.set_model("alias");
  grpc::ClientContext context;
  v1::EmbedResponse response;
  const grpc::Status status = talk_.stub->Embed(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model(), "alias");
  EXPECT_FALSE(response.id().empty());
  ASSERT_EQ(response.embeddings_size(), 5);
  EXPECT_THAT(response.embeddings(0).values(), ElementsAre(3, 256, 'b'));
  EXPECT_THAT(response.embeddings(1).values(), ElementsAre(2, 256, 'c'));
  EXPECT_THAT(response.embeddings(2).values(), ElementsAre(3, 7, 8));
  EXPECT_THAT(response.embeddings(4).values(), ElementsAre(1, 9, 9));
  EXPECT_EQ(response.embeddings(4).index(), 4);
  EXPECT_EQ(response.usage().prompt_tokens(), 10);
  EXPECT_EQ(response.usage().completion_tokens(), 0);
  const RequestRecord record = talk_.log.Wait(1).at(0);
  EXPECT_EQ(record.code, 200);
  EXPECT_EQ(record.protocol, "grpc");
  EXPECT_THAT(talk_.catalogue.Text(), HasSubstr("penstock_requests_total{code=\"200\"} 1\n"));
}

TEST_F(GrpcEmbed, CutsInputsAndVectors) {
  v1::EmbedRequest request = Texts({"abcdef"});
  request.set_truncate_prompt_tokens(4);
  request.set_dimensions(2);
  grpc::ClientContext context, plain;
  v1::EmbedResponse response;
  ASSERT_TRUE(talk_.stub->Embed(&context, request, &response).ok());
  EXPECT_THAT(response.embeddings(0).values(), ElementsAre(4, 256));
  request = Texts({"abc"});
  request.set_add_special_tokens(false);
  ASSERT_TRUE(talk_.stub->Embed(&plain, request, &response).ok());
  EXPECT_THAT(response.embeddings(0).values(), ElementsAre(3, 'a', 'c'));
}

TEST_F(GrpcEmbed, RefusesByTheNameOfTheField) {
  EXPECT_EQ(Refuse({}), "input");
  v1::EmbedRequest request = Texts({"a"});
  request.add_input();
  EXPECT_EQ(Refuse(request), "input[1]");
  request.mutable_input(1)->mutable_ids();
  EXPECT_EQ(Refuse(request), "input[1]");
  request.mutable_input(1)->mutable_ids()->add_ids(258);
  EXPECT_EQ(Refuse(request), "input[1]");
  for (const int64_t dimensions : {int64_t{0}, int64_t{4}, INT64_MAX, INT64_MIN}) {
    request = Texts({"a"});
    request.set_dimensions(dimensions);
    EXPECT_EQ(Refuse(request), "dimensions") << dimensions;
  }
  request = Texts({"a"});
  request.set_truncate_prompt_tokens(5000);
  EXPECT_EQ(Refuse(request), "truncate_prompt_tokens");
  request = Texts({"a"});
  request.set_timeout_ms(0);
  EXPECT_EQ(Refuse(request), "timeout_ms");
  request.set_model("none");
  EXPECT_EQ(Refuse(request, grpc::StatusCode::NOT_FOUND), "model");
  talk_.model->can_embed = false;
  EXPECT_EQ(Refuse(Texts({"a"})), "model");
  EXPECT_EQ(talk_.engine.submitted().size(), 0);
}

TEST_F(GrpcEmbedHeld, ACancelledCallCancelsItsRequests) {
  grpc::ClientContext context;
  v1::EmbedResponse response;
  grpc::Status status;
  std::thread client([&] { status = talk_.stub->Embed(&context, Texts({"a", "b"}), &response); });
  ASSERT_TRUE(talk_.engine.WaitFor([](size_t submitted, size_t) { return submitted == 2; }));
  context.TryCancel();
  client.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  while (talk_.engine.num_cancelled() < 2) std::this_thread::yield();
  talk_.engine.StepUntilIdle();
  EXPECT_EQ(talk_.log.Wait(1).at(0).code, 499);
}

TEST_F(GrpcEmbedHeld, ACallsDeadlineIsTheRequests) {
  WithDeadlines(talk_.engine, [&](grpc::ClientContext& context) {
    v1::EmbedResponse response;
    EXPECT_EQ(talk_.stub->Embed(&context, Texts({"a"}), &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  ASSERT_TRUE(talk_.engine.submitted()[0].deadline);
  while (talk_.engine.num_cancelled() == 0) std::this_thread::yield();
  talk_.engine.StepUntilIdle();
}

TEST(GrpcModels, AreFoundByNameAndAlias) {
  GrpcTalk talk;
  for (const char* name : {"demo", "alias", ""}) {
    v1::GetModelRequest request;
    if (*name != 0) request.set_model(name);
    grpc::ClientContext context;
    v1::Model model;
    ASSERT_TRUE(talk.stub->GetModel(&context, request, &model).ok()) << name;
    EXPECT_EQ(model.id(), "demo");
    EXPECT_THAT(model.aliases(), ElementsAre("alias"));
    EXPECT_EQ(model.max_model_len(), 4096);
    EXPECT_EQ(model.created(), 1700000000);
  }
  v1::GetModelRequest request;
  request.set_model("gpt-9");
  grpc::ClientContext context;
  v1::Model model;
  EXPECT_EQ(talk.stub->GetModel(&context, request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(FieldAtFault(context), "model");
}

TEST(GrpcKeys, AreAskedForByEveryCall) {
  GrpcTalk talk(FakeEngine::Repeat, {}, {"secret"});
  using Status = grpc::Status;
  const std::vector<std::pair<const char*, std::function<Status(grpc::ClientContext*)>>> calls = {
      {"Chat",
       [&](auto* c) {
         v1::ChatResponse r;
         return talk.stub->Chat(c, {}, &r);
       }},
      {"ChatStream", [&](auto* c) { return talk.stub->ChatStream(c, {})->Finish(); }},
      {"Embed",
       [&](auto* c) {
         v1::EmbedResponse r;
         return talk.stub->Embed(c, {}, &r);
       }},
      {"GetModel",
       [&](auto* c) {
         v1::Model r;
         return talk.stub->GetModel(c, {}, &r);
       }},
      {"Tokenize",
       [&](auto* c) {
         v1::TokenizeResponse r;
         return talk.stub->Tokenize(c, {}, &r);
       }},
      {"Detokenize",
       [&](auto* c) {
         v1::DetokenizeResponse r;
         return talk.stub->Detokenize(c, {}, &r);
       }},
  };
  for (const auto& [name, call] : calls) {
    grpc::ClientContext without, wrong, with;
    EXPECT_EQ(call(&without).error_code(), grpc::StatusCode::UNAUTHENTICATED) << name;
    wrong.AddMetadata("authorization", "Bearer no");
    EXPECT_EQ(call(&wrong).error_code(), grpc::StatusCode::UNAUTHENTICATED) << name;
    with.AddMetadata("x-api-key", "secret");
    EXPECT_NE(call(&with).error_code(), grpc::StatusCode::UNAUTHENTICATED) << name;
  }
}

TEST(GrpcMessages, HaveABoundAndAChoiceOfEncoding) {
  LimitsSection limits;
  limits.max_body = {10'000};
  GrpcTalk talk(FakeEngine::Repeat, limits);
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  for (const char* name : {"gzip", "deflate", "identity"}) {
    grpc::ClientContext context;
    context.AddMetadata("x-response-encoding", name);
    request.set_text(std::string(9'000, 'a'));
    EXPECT_TRUE(talk.stub->Tokenize(&context, request, &response).ok()) << name;
    EXPECT_EQ(response.ids_size(), 9'001);
  }
  grpc::ClientContext zipped, unknown, large;
  zipped.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  EXPECT_EQ(talk.stub->Tokenize(&zipped, request, &response).error_code(),
            grpc::StatusCode::UNIMPLEMENTED)
      << "it would be inflated before anybody knows how large it is";
  unknown.AddMetadata("x-response-encoding", "brotli");
  EXPECT_EQ(talk.stub->Tokenize(&unknown, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldAtFault(unknown), "x-response-encoding");
  request.set_text(std::string(11'000, 'a'));
  EXPECT_EQ(talk.stub->Tokenize(&large, request, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace penstock
