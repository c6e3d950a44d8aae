// /v1/embeddings and /v1/rerank over a loopback socket, on a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fakes/http_talk.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The vector of a prompt: its length, its first id, its last id.
std::vector<float> Describe(const GenerateRequest& request) {
  return {static_cast<float>(request.prompt.size()), static_cast<float>(request.prompt.front()),
          static_cast<float>(request.prompt.back())};
}

class EmbeddingRoutes : public ::testing::Test {
 protected:
  EmbeddingRoutes() {
    talk_.model->normalize = false;
    talk_.model->embedding_size = 3;
    talk_.engine.set_hidden(Describe);
  }
  json Post(std::string_view path, const std::string& body, int expected = 200) {
    HttpClient client(talk_.port());
    const ClientResponse response = client.Post(path, body);
    EXPECT_EQ(response.status, expected) << response.body;
    return json::parse(response.body, nullptr, false);
  }
  void BecomeReranker() {
    talk_.model->can_generate = talk_.model->can_embed = false;
    talk_.model->can_rerank = true;
    // The longer the document, the better.
    talk_.engine.set_hidden([](const GenerateRequest& r) {
      return std::vector<float>{static_cast<float>(r.prompt.size()) - 6.0f};
    });
  }

  HttpTalk talk_;
};

TEST_F(EmbeddingRoutes, WouldNotWaitForWhatComesTooLate) {
  EngineLoad queue;
  queue.num_waiting = 20;
  queue.waiting = Waiting({{0, 20, 200}});
  queue.requests_per_second = 2;
  talk_.engine.set_queue(queue);
  Post("/v1/embeddings", R"({"input":"a","timeout_ms":6000})", 429);
  Post("/v1/embeddings", R"({"input":"a","timeout_ms":16000})");
}

TEST_F(EmbeddingRoutes, AnswerInTheOrderOfTheInputs) {
  const json answer = Post("/v1/embeddings", R"({"model":"alias","input":["ab","c",""]})");
  EXPECT_EQ(answer["object"], "list");
  EXPECT_EQ(answer["model"], "alias");
  ASSERT_EQ(answer["data"].size(), 3u);
  EXPECT_EQ(answer["data"][0]["embedding"], json({3, 256, 'b'}));
  EXPECT_EQ(answer["data"][1]["embedding"], json({2, 256, 'c'}));
  EXPECT_EQ(answer["data"][2]["embedding"], json({1, 256, 256}));
  EXPECT_EQ(answer["data"][2]["index"], 2);
  EXPECT_EQ(answer["data"][2]["object"], "embedding");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 6);
  EXPECT_EQ(answer["usage"]["total_tokens"], 6);
  for (const GenerateRequest& request : talk_.engine.submitted()) {
    EXPECT_EQ(request.max_tokens, 0);
    EXPECT_EQ(request.output, OutputKind::kHidden);
  }
  const RequestRecord record = talk_.log.Wait(1).at(0);
  EXPECT_EQ(record.code, 200);
  EXPECT_EQ(record.num_choices, 3);
  EXPECT_EQ(record.usage.prompt_tokens, 6);
}

TEST_F(EmbeddingRoutes, TakeEveryFormOfInput) {
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"a"})")["data"][0]["embedding"],
            json({2, 256, 'a'}));
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":[7,8]})")["data"][0]["embedding"], json({2, 7, 8}));
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":[[7],[8,9]]})")["data"][1]["embedding"],
            json({2, 8, 9}));
  EXPECT_EQ(
      Post("/v1/embeddings", R"({"input":"a","add_special_tokens":false})")["data"][0]["embedding"],
      json({1, 'a', 'a'}));
}

TEST_F(EmbeddingRoutes, LowerTheCaseForModelsThatAskForIt) {
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"aB"})")["data"][0]["embedding"],
            json({3, 256, 'B'}));
  talk_.model->lowercase = true;
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"aB"})")["data"][0]["embedding"],
            json({3, 256, 'b'}));
}

TEST_F(EmbeddingRoutes, NormaliseAfterCuttingToTheDimensions) {
  talk_.model->normalize = true;
  talk_.engine.set_hidden([](const GenerateRequest&) { return std::vector<float>{3, 4, 12}; });
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"a","dimensions":2})")["data"][0]["embedding"],
            json({0.6, 0.8}));
  talk_.engine.set_hidden([](const GenerateRequest&) { return std::vector<float>{0, 0, 0}; });
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"a"})")["data"][0]["embedding"], json({0, 0, 0}));
}

TEST_F(EmbeddingRoutes, Base64IsLittleEndianFloat32) {
  talk_.engine.set_hidden([](const GenerateRequest&) { return std::vector<float>{1, -2, 0.5f}; });
  // 00 00 80 3f  00 00 00 c0  00 00 00 3f
  EXPECT_EQ(
      Post("/v1/embeddings", R"({"input":"a","encoding_format":"base64"})")["data"][0]["embedding"],
      "AACAPwAAAMAAAAA/");
}

TEST_F(EmbeddingRoutes, CutTheEndAndKeepSpecialTokens) {
  const json answer = Post("/v1/embeddings", R"({"input":["abcdef","ab",[1,2,3,4,5]],)"
                                             R"("truncate_prompt_tokens":4})");
  EXPECT_EQ(answer["data"][0]["embedding"], json({4, 256, 'c'}));
  EXPECT_EQ(answer["data"][1]["embedding"], json({3, 256, 'b'}));
  EXPECT_EQ(answer["data"][2]["embedding"], json({4, 1, 4}));
}

TEST_F(EmbeddingRoutes, ManyInputsNeverFillTheQueue) {
  talk_.engine.set_max_live(257);  // one that has ended may still be in the fake's list
  std::string body = R"({"input":[)";
  for (int i = 0; i < 2048; ++i) body += (i == 0 ? "[" : ",[") + std::to_string(i % 250) + "]";
  const json answer = Post("/v1/embeddings", body + "]}");
  ASSERT_EQ(answer["data"].size(), 2048u);
  for (int i = 0; i < 2048; ++i) EXPECT_EQ(answer["data"][i]["embedding"][1], i % 250);
}

TEST_F(EmbeddingRoutes, OneRefusedInputFailsTheCall) {
  talk_.engine.set_max_live(2);
  talk_.engine.Pause(true);
  HttpClient client(talk_.port());
  client.Send(HttpClient::PostText("/v1/embeddings", R"({"input":["a","b","c"]})"));
  ASSERT_TRUE(talk_.engine.WaitFor([](size_t submitted, size_t) { return submitted == 2; }));
  while (talk_.engine.num_cancelled() < 2) absl::SleepFor(absl::Milliseconds(1));
  talk_.engine.Pause(false);
  EXPECT_EQ(client.Read().status, 429);
  ASSERT_TRUE(talk_.engine.WaitFor([](size_t, size_t live) { return live == 0; }));
  EXPECT_EQ(talk_.log.Wait(1).at(0).code, 429);
}

TEST_F(EmbeddingRoutes, AFaultIsA500AndAShortVectorToo) {
  talk_.engine.set_hidden([](const GenerateRequest&) { return std::vector<float>{1}; });
  EXPECT_THAT(
      Post("/v1/embeddings", R"({"input":"a"})", 500)["error"]["message"].get<std::string>(),
      HasSubstr("1 of 3"));
  talk_.engine.set_fault(absl::InternalError("the device fell off"));
  Post("/v1/embeddings", R"({"input":["a","b"]})", 500);
  EXPECT_EQ(talk_.log.Wait(2).at(1).finish, "error");
}

TEST_F(EmbeddingRoutes, ADeadlineIsA408) {
  talk_.engine.Pause(true);
  HttpClient client(talk_.port());
  client.Send(HttpClient::PostText("/v1/embeddings", R"({"input":"a","timeout_ms":1})"));
  ASSERT_TRUE(talk_.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  absl::SleepFor(absl::Milliseconds(5));
  talk_.engine.Pause(false);
  EXPECT_EQ(client.Read().status, 408);
}

TEST_F(EmbeddingRoutes, AClientThatGoesAwayCancelsAll) {
  talk_.engine.Pause(true);
  {
    HttpClient client(talk_.port());
    client.Send(HttpClient::PostText("/v1/embeddings", R"({"input":["a","b","c"]})"));
    ASSERT_TRUE(talk_.engine.WaitFor([](size_t submitted, size_t) { return submitted == 3; }));
  }
  while (talk_.engine.num_cancelled() < 3) absl::SleepFor(absl::Milliseconds(1));
  talk_.engine.Pause(false);
  const RequestRecord record = talk_.log.Wait(1).at(0);
  EXPECT_EQ(record.code, 499);
  EXPECT_EQ(record.finish, "abort");
  EXPECT_TRUE(talk_.engine.WaitFor([](size_t, size_t live) { return live == 0; }));
}

TEST_F(EmbeddingRoutes, RerankSortsByTheSigmoidOfTheScore) {
  BecomeReranker();
  const json answer =
      Post("/v1/rerank", R"({"query":"q","documents":["abc",{"text":"abcde"},"a"],"top_n":2})");
  ASSERT_EQ(answer["results"].size(), 2u);
  EXPECT_EQ(answer["results"][0]["index"], 1);
  EXPECT_EQ(answer["results"][0]["document"], json({{"text", "abcde"}}));
  EXPECT_NEAR(answer["results"][0]["relevance_score"], 1 / (1 + std::exp(-2.0)), 1e-6);
  EXPECT_EQ(answer["results"][1]["index"], 0);
  EXPECT_NEAR(answer["results"][1]["relevance_score"], 0.5, 1e-6);
  EXPECT_EQ(answer["usage"]["total_tokens"], 6 + 8 + 4);
  EXPECT_EQ(talk_.engine.submitted().at(0).prompt,
            (std::vector<TokenId>{256, 'q', 257, 'a', 'b', 'c'}));
  EXPECT_EQ(talk_.engine.submitted().at(0).second_segment, 3);
}

TEST_F(EmbeddingRoutes, RerankShortensTheLongerTextFirst) {
  BecomeReranker();
  Post("/rerank",
       R"({"query":"qqqq","documents":["a","abcdefgh","abcd"],"truncate_prompt_tokens":9})");
  const std::vector<GenerateRequest> sent = talk_.engine.submitted();
  ASSERT_EQ(sent.size(), 3u);
  EXPECT_EQ(sent[0].prompt.size(), 7u);
  EXPECT_THAT(sent[1].prompt, ElementsAre(256, 'q', 'q', 'q', 257, 'a', 'b', 'c', 'd'));
  EXPECT_THAT(sent[2].prompt, ElementsAre(256, 'q', 'q', 'q', 257, 'a', 'b', 'c', 'd'));
}

TEST_F(EmbeddingRoutes, TooLongInputsNameBothNumbers) {
  talk_.model->max_context = 4;
  const json error = Post("/v1/embeddings", R"({"input":["a","abcde"]})", 400)["error"];
  EXPECT_EQ(error["param"], "input[1]");
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("has 6 tokens"));
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("context is 4"));
  EXPECT_EQ(talk_.engine.submitted().size(), 0u);
  EXPECT_EQ(talk_.log.Wait(1).at(0).code, 400);
}

TEST_F(EmbeddingRoutes, ModelsSayWhatTheyCannotDo) {
  EXPECT_EQ(Post("/v1/rerank", R"({"query":"q","documents":["a"]})", 400)["error"]["param"],
            "model");
  BecomeReranker();
  EXPECT_EQ(Post("/v1/embeddings", R"({"input":"a"})", 400)["error"]["param"], "model");
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"a"})", 400)["error"]["param"], "model");
  talk_.model->tokenizer = nullptr;
  EXPECT_EQ(Post("/v1/rerank", R"({"query":"q","documents":["a"]})", 400)["error"]["param"],
            "query");
}

}  // namespace
}  // namespace penstock
