// /v1/completions and /v1/chat/completions over a loopback socket, on a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "fakes/http_talk.h"
#include "text/chat_template.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  for (absl::string_view event : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
    EXPECT_TRUE(absl::ConsumePrefix(&event, "data: ")) << body;
    events.emplace_back(event);
  }
  return events;
}

// Sends a streaming request to an engine stepped by hand, one step per event, and reads the whole
// answer.
ClientResponse PostPaced(HttpTalk& talk, std::string_view path, const std::string& body,
                         int num_steps) {
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText(path, body));
  EXPECT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  for (int i = 0; i < num_steps; ++i) {
    const size_t seen = client.buffer().size();
    talk.engine.Step();
    while (client.buffer().find("data: ", seen) == std::string::npos && client.Fill()) {
    }
  }
  talk.engine.StepUntilIdle();
  return client.Read();
}

json PostJson(HttpTalk& talk, std::string_view path, const std::string& body,
              int expected_status = 200) {
  HttpClient client(talk.port());
  const ClientResponse response = client.Post(path, body);
  EXPECT_EQ(response.status, expected_status) << response.body;
  return json::parse(response.body, nullptr, false);
}

TEST(Completions, AnswerAPromptAsTheOpenAiApiDoes) {
  HttpTalk talk;
  const json answer =
      PostJson(talk, "/v1/completions",
               R"({"model":"demo","prompt":"abc","max_tokens":5,"add_special_tokens":false})");
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["model"], "demo");
  EXPECT_TRUE(absl::StartsWith(answer["id"].get<std::string>(), "cmpl-"));
  EXPECT_EQ(answer["choices"][0]["text"], "abcab");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(answer["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 5);
  EXPECT_EQ(answer["usage"]["total_tokens"], 8);
}

TEST(Completions, GiveSixteenTokensToASilentClient) {
  HttpTalk talk;
  EXPECT_EQ(PostJson(talk, "/v1/completions", R"({"prompt":"abc"})")["usage"]["completion_tokens"],
            16);
}

TEST(Completions, StreamPiecesThenUsageThenDone) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, false);
  const ClientResponse response =
      PostPaced(talk, "/v1/completions",
                R"({"prompt":"xyz","max_tokens":4,"stream":true,)"
                R"("stream_options":{"include_usage":true},"add_special_tokens":false})",
                4);
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.headers.at("content-type"), HasSubstr("text/event-stream"));
  const std::vector<std::string> events = Events(response.body);
  ASSERT_EQ(events.size(), 6);
  std::string text;
  for (size_t i = 0; i < 4; ++i) {
    const json event = json::parse(events[i]);
    text += event["choices"][0]["text"];
    EXPECT_TRUE(event["usage"].is_null());
  }
  EXPECT_EQ(text, "xyzx");
  EXPECT_EQ(json::parse(events[3])["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(json::parse(events[4])["choices"].empty());
  EXPECT_EQ(json::parse(events[4])["usage"]["completion_tokens"], 4);
  EXPECT_EQ(events[5], "[DONE]");
}

TEST(Completions, TakeSeveralPromptsAndCopies) {
  HttpTalk talk;
  const json answer =
      PostJson(talk, "/v1/completions", R"({"prompt":[[65,66],[67]],"n":2,"max_tokens":2})");
  ASSERT_EQ(answer["choices"].size(), 4);
  EXPECT_EQ(answer["choices"][0]["text"], "AB");
  EXPECT_EQ(answer["choices"][1]["text"], "AB");
  EXPECT_EQ(answer["choices"][3]["text"], "CC");
  EXPECT_EQ(answer["choices"][3]["index"], 3);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 8);
}

TEST(Completions, TakeBiasesByIdAndTextAndBadWordsAsTheirTokens) {
  HttpTalk talk;
  PostJson(talk, "/v1/completions",
           R"({"prompt":"x","max_tokens":1,"logit_bias":{"65":1.5,"bc":-100},)"
           R"("bad_words":["no"," so","no"]})");
  const auto submitted = talk.engine.submitted();
  ASSERT_EQ(submitted.size(), 1);
  const SamplingParams& sampling = submitted[0].sampling;
  EXPECT_THAT(sampling.logit_bias,
              ElementsAre(std::pair(65, 1.5f), std::pair(98, -100.0f), std::pair(99, -100.0f)));
  EXPECT_THAT(sampling.bad_words,
              ElementsAre(Ids(" no"), Ids("no"), Ids(" so"), Ids(" no"), Ids("no")));
  std::string many = R"({"prompt":"x","bad_words":["a")";
  for (int i = 0; i < 128; ++i) many += ",\"b\"";
  EXPECT_EQ(PostJson(talk, "/v1/completions", many + "]}", 400)["error"]["param"], "bad_words");
  const std::string wide = R"({"prompt":"x","bad_words":[")" + std::string(257, 'b') + "\"]}";
  EXPECT_EQ(PostJson(talk, "/v1/completions", wide, 400)["error"]["param"], "bad_words");
  talk.model->tokenizer = nullptr;
  EXPECT_EQ(
      PostJson(talk, "/v1/completions", R"({"prompt":[1],"bad_words":"a"})", 400)["error"]["param"],
      "bad_words");
}

TEST(Completions, StopAtAStringAndCancelTheRest) {
  HttpTalk talk(FakeEngine::Always(Ids("hello STOP and more text that nobody reads")));
  const json answer =
      PostJson(talk, "/v1/completions", R"({"prompt":"x","max_tokens":40,"stop":["STOP"]})");
  EXPECT_EQ(answer["choices"][0]["text"], "hello ");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], "STOP");
  EXPECT_EQ(answer["usage"]["completion_tokens"], 10);
  EXPECT_TRUE(talk.engine.WaitFor([](size_t, size_t live) { return live == 0; }));
}

TEST(Completions, EndWithTheModelsEndTokenAndNoReason) {
  std::vector<TokenId> tokens = Ids("ok");
  tokens.push_back(FakeTokenizer::kEos);
  HttpTalk talk(FakeEngine::Always(tokens));
  const json answer = PostJson(talk, "/v1/completions", R"({"prompt":"x","max_tokens":40})");
  EXPECT_EQ(answer["choices"][0]["text"], "ok");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(answer["choices"][0]["stop_reason"].is_null());
  EXPECT_EQ(answer["usage"]["completion_tokens"], 3);
}

TEST(Completions, NameTheStopTokenThatTheClientAskedFor) {
  HttpTalk talk(FakeEngine::Always(Ids("ab!")));
  const json answer =
      PostJson(talk, "/v1/completions", R"({"prompt":"x","max_tokens":40,"stop_token_ids":[33]})");
  EXPECT_EQ(answer["choices"][0]["text"], "ab");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], 33);
}

TEST(Completions, NeverSendHalfACodePoint) {
  HttpTalk talk(FakeEngine::Always(Ids("\xE2\x82\xAC")), {}, {}, false);
  HttpClient client(talk.port());
  client.Send(
      HttpClient::PostText("/v1/completions", R"({"prompt":"x","max_tokens":3,"stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  talk.engine.Step();
  EXPECT_EQ(client.buffer(), "");
  talk.engine.Step();
  const ClientResponse response = client.Read();
  std::vector<std::string> texts;
  for (const std::string& event : Events(response.body)) {
    if (event == "[DONE]") continue;
    const std::string text = json::parse(event)["choices"][0]["text"];
    if (!text.empty()) texts.push_back(text);  // what says why it ended may come apart
  }
  EXPECT_THAT(texts, ElementsAre("\xE2\x82\xAC"));
}

TEST(Completions, EchoThePromptWithItsLogprobs) {
  HttpTalk talk;
  const json answer = PostJson(
      talk, "/v1/completions",
      R"({"prompt":"ab","max_tokens":1,"echo":true,"logprobs":2,"add_special_tokens":false})");
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["text"], "aba");
  EXPECT_EQ(choice["logprobs"]["tokens"], json({"a", "b", "a"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], json({nullptr, -1.5, -0.5}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], json({0, 1, 2}));
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][2].size(),
            3);  // the drawn token and the two most likely
}

TEST(Completions, ScoreAPromptAloneWithEchoAndNoTokens) {
  HttpTalk talk;
  const json answer = PostJson(
      talk, "/v1/completions",
      R"({"prompt":"ab","max_tokens":0,"echo":true,"logprobs":0,"add_special_tokens":false})");
  EXPECT_EQ(answer["choices"][0]["text"], "ab");
  EXPECT_EQ(answer["choices"][0]["logprobs"]["tokens"].size(), 2);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 0);
}

TEST(Completions, SpecialTokensOfAnEchoTakeNoRoomInTheText) {
  HttpTalk talk;
  const json answer = PostJson(talk, "/v1/completions",
                               R"({"prompt":"ab","max_tokens":1,"echo":true,"logprobs":0})");
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["logprobs"]["tokens"], json({"<bos>", "a", "b", "<bos>"}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], json({0, 0, 1, 2}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], json({nullptr, -1.5, -1.5, -0.5}));
}

TEST(Completions, ScoreThePromptBesideTheOutput) {
  HttpTalk talk;
  const json answer = PostJson(
      talk, "/v1/completions",
      R"({"prompt":"abc","max_tokens":1,"logprobs":1,"prompt_logprobs":2,"add_special_tokens":false})");
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["text"], "a");
  EXPECT_EQ(choice["logprobs"]["tokens"], json({"a"})) << "the output's alone";
  ASSERT_EQ(choice["prompt_logprobs"].size(), 3);
  EXPECT_TRUE(choice["prompt_logprobs"][0].is_null());
  EXPECT_EQ(choice["prompt_logprobs"][2], json::parse(R"({
      "99": {"logprob": -1.5, "rank": 2, "decoded_token": "c"},
      "0": {"logprob": -1.0, "rank": 1, "decoded_token": "\u0000"},
      "1": {"logprob": -1.0, "rank": 2, "decoded_token": "\u0001"}})"));
  const json echoed = PostJson(talk, "/v1/completions",
                               R"({"prompt":"ab","max_tokens":1,"logprobs":1,"prompt_logprobs":3,)"
                               R"("echo":true,"add_special_tokens":false})");
  EXPECT_EQ(echoed["choices"][0]["logprobs"]["tokens"], json({"a", "b", "a"}));
  EXPECT_EQ(echoed["choices"][0]["logprobs"]["top_logprobs"][1].size(), 2);
  EXPECT_EQ(echoed["choices"][0]["prompt_logprobs"][1].size(), 4);
  const json plain = PostJson(talk, "/v1/completions", R"({"prompt":"ab","max_tokens":1})");
  EXPECT_FALSE(plain["choices"][0].contains("prompt_logprobs"));
}

TEST(Completions, ModelsWithoutATokenizerSpeakIds) {
  HttpTalk talk;
  talk.model->tokenizer = nullptr;
  const json answer = PostJson(talk, "/v1/completions", R"({"prompt":[7,8],"max_tokens":3})");
  EXPECT_EQ(answer["choices"][0]["token_ids"], json({7, 8, 7}));
  EXPECT_EQ(answer["choices"][0]["text"], "");
  const json refused = PostJson(talk, "/v1/completions", R"({"prompt":"text"})", 400);
  EXPECT_EQ(refused["error"]["param"], "prompt");
}

TEST(Completions, CountExactlyWhatClientsSee) {
  HttpTalk talk(FakeEngine::Always(Ids("one STOP two three")));
  int64_t prompt = 0, completion = 0;
  for (const char* body : {R"({"prompt":"x","max_tokens":9,"stop":"STOP"})",
                           R"({"prompt":"yy","max_tokens":3,"n":2})"}) {
    const json usage = PostJson(talk, "/v1/completions", body)["usage"];
    prompt += usage["prompt_tokens"].get<int64_t>();
    completion += usage["completion_tokens"].get<int64_t>();
  }
  EXPECT_EQ(talk.metrics.prompt_tokens.value(), prompt);
  EXPECT_EQ(talk.metrics.generation_tokens.value(), completion);
  EXPECT_EQ(talk.metrics.success_stop.value(), 1);
  EXPECT_EQ(talk.metrics.success_length.value(), 2);
}

class ChatTest : public ::testing::Test {
 protected:
  ChatTest() : talk_(FakeEngine::Repeat, {}, {}, false) {
    auto parsed = ChatTemplate::Parse(
        "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if "
        "add_generation_prompt %}A:{% endif %}");
    if (parsed.ok()) chat_template_.emplace(*std::move(parsed));
    talk_.model->chat_template = chat_template_ ? &*chat_template_ : nullptr;
  }
  std::optional<ChatTemplate> chat_template_;
  HttpTalk talk_;
};

TEST_F(ChatTest, ScoresThePromptBesideTheChoices) {
  talk_.engine.Start();
  const json answer = PostJson(talk_, "/v1/chat/completions",
                               R"({"prompt_logprobs":0,"n":2,"max_tokens":1,)"
                               R"("messages":[{"role":"user","content":"ab"}]})");
  ASSERT_EQ(answer["prompt_logprobs"].size(), 10) << "of user:ab;A:";
  EXPECT_TRUE(answer["prompt_logprobs"][0].is_null());
  EXPECT_EQ(answer["prompt_logprobs"][1]["115"]["decoded_token"], "s");
  EXPECT_EQ(answer["choices"].size(), 2);
  EXPECT_TRUE(answer["choices"][0]["logprobs"].is_null());
}

TEST_F(ChatTest, RendersMessagesAndAnswersAsTheAssistant) {
  talk_.engine.Start();
  const json answer =
      PostJson(talk_, "/v1/chat/completions",
               R"({"model":"alias","max_completion_tokens":12,"messages":[{"role":"user",)"
               R"("content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})");
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["model"], "alias");
  EXPECT_EQ(answer["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "user:a\nb;A:u");
}

TEST_F(ChatTest, TheRoleLeavesWithTheFirstToken) {
  const ClientResponse response =
      PostPaced(talk_, "/v1/chat/completions",
                R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":3,)"
                R"("stream":true,"logprobs":true,"top_logprobs":1})",
                3);
  const std::vector<std::string> events = Events(response.body);
  ASSERT_EQ(events.size(), 4);
  const json first = json::parse(events[0]), second = json::parse(events[1]);
  EXPECT_EQ(first["object"], "chat.completion.chunk");
  EXPECT_EQ(first["choices"][0]["delta"], json({{"role", "assistant"}, {"content", "u"}}));
  EXPECT_EQ(second["choices"][0]["delta"], json({{"content", "s"}}));
  EXPECT_EQ(first["choices"][0]["logprobs"]["content"][0]["token"], "u");
  EXPECT_EQ(first["choices"][0]["logprobs"]["content"][0]["bytes"], json({117}));
  EXPECT_EQ(first["choices"][0]["logprobs"]["content"][0]["top_logprobs"].size(), 1);
}

TEST_F(ChatTest, GetsTheRestOfTheContextWhenSilent) {
  talk_.engine.Start();
  PostJson(talk_, "/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(talk_.engine.submitted()[0].max_tokens, 4096 - 10);
}

}  // namespace
}  // namespace penstock
