// What the server refuses: the status, and the field that the answer names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "fakes/http_talk.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct BadField {
  const char* path;
  const char* fields;  // members added to an otherwise good body
  const char* param;
};

class BadFieldTest : public ::testing::TestWithParam<BadField> {};

TEST_P(BadFieldTest, IsA400ThatNamesTheField) {
  HttpTalk talk;
  const bool chat = std::string_view(GetParam().path) == "/v1/chat/completions";
  const std::string start =
      chat ? R"({"messages":[{"role":"user","content":"x"}],)" : R"({"prompt":"x",)";
  HttpClient client(talk.port());
  const ClientResponse response = client.Post(GetParam().path, start + GetParam().fields + "}");
  EXPECT_EQ(response.status, 400) << response.body;
  const json body = json::parse(response.body);
  EXPECT_EQ(body["error"]["param"], GetParam().param) << response.body;
  EXPECT_EQ(body["error"]["code"], 400);
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_THAT(body["error"]["message"].get<std::string>(),
              HasSubstr(std::string(GetParam().param).substr(0, 4)));
  EXPECT_EQ(talk.engine.submitted().size(), 0);
}

constexpr const char* kText = "/v1/completions";
constexpr const char* kTalk = "/v1/chat/completions";

INSTANTIATE_TEST_SUITE_P(
    Ranges, BadFieldTest,
    ::testing::Values(
        BadField{kText, R"("temperature":2.5)", "temperature"},
        BadField{kText, R"("temperature":-0.1)", "temperature"},
        BadField{kText, R"("top_p":0)", "top_p"}, BadField{kText, R"("top_p":1.01)", "top_p"},
        BadField{kText, R"("top_k":-2)", "top_k"}, BadField{kText, R"("min_p":2)", "min_p"},
        BadField{kText, R"("repetition_penalty":0)", "repetition_penalty"},
        BadField{kText, R"("presence_penalty":3)", "presence_penalty"},
        BadField{kText, R"("frequency_penalty":-3)", "frequency_penalty"},
        BadField{kText, R"("n":0)", "n"}, BadField{kText, R"("n":17)", "n"},
        BadField{kText, R"("max_tokens":0)", "max_tokens"},
        BadField{kText, R"("max_tokens":-1)", "max_tokens"},
        BadField{kText, R"("max_tokens":5000)", "max_tokens"},
        BadField{kText, R"("max_tokens":4,"min_tokens":5)", "min_tokens"},
        BadField{kText, R"("logprobs":21)", "logprobs"},
        BadField{kText, R"("prompt_logprobs":21)", "prompt_logprobs"},
        BadField{kText, R"("prompt_logprobs":-1)", "prompt_logprobs"},
        BadField{kTalk, R"("prompt_logprobs":9223372036854775807)", "prompt_logprobs"},
        BadField{kTalk, R"("prompt_logprobs":0,"stream":true)", "prompt_logprobs"},
        BadField{kText, R"("logit_bias":{"65":101})", "logit_bias"},
        BadField{kText, R"("logit_bias":{"999":1})", "logit_bias"},
        BadField{kText, R"("stop":"")", "stop"},
        BadField{kText, R"("stop_token_ids":[258])", "stop_token_ids"},
        BadField{kText, R"("allowed_token_ids":[-1])", "allowed_token_ids"},
        BadField{kText, R"("best_of":2,"n":3)", "best_of"},
        BadField{kText, R"("best_of":2,"stream":true)", "best_of"},
        BadField{kText, R"("best_of":17)", "best_of"},
        BadField{kText, R"("timeout_ms":0)", "timeout_ms"},
        BadField{kText, R"("stream_interval":0)", "stream_interval"},
        BadField{kText, R"("truncate_prompt_tokens":0)", "truncate_prompt_tokens"},
        BadField{kTalk, R"("top_logprobs":2)", "top_logprobs"},
        BadField{kTalk, R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
        BadField{kTalk, R"("max_completion_tokens":0)", "max_completion_tokens"},
        BadField{kText, R"("stream_options":{"include_usage":true})", "stream_options"}));

INSTANTIATE_TEST_SUITE_P(
    Types, BadFieldTest,
    ::testing::Values(
        BadField{kText, R"("temperature":"hot")", "temperature"},
        BadField{kText, R"("max_tokens":1.5)", "max_tokens"},
        BadField{kText, R"("max_tokens":"9")", "max_tokens"},
        BadField{kText, R"("max_tokens":true)", "max_tokens"},
        BadField{kText, R"("seed":18446744073709551615)", "seed"},
        BadField{kText, R"("stream":1)", "stream"}, BadField{kText, R"("stop":[1])", "stop"},
        BadField{kText, R"("stop_token_ids":["a"])", "stop_token_ids"},
        BadField{kText, R"("logit_bias":[1])", "logit_bias"},
        BadField{kText, R"("prompt_logprobs":true)", "prompt_logprobs"},
        BadField{kText, R"("prompt_logprobs":0.5)", "prompt_logprobs"},
        BadField{kTalk, R"("prompt_logprobs":"1")", "prompt_logprobs"},
        BadField{kTalk, R"("prompt_logprobs":[1])", "prompt_logprobs"},
        BadField{kText, R"("logit_bias":{"a":"1"})", "logit_bias"},
        BadField{kText, R"("logit_bias":{"":1})", "logit_bias"},
        BadField{kText, R"("logit_bias":{"a":101})", "logit_bias"},
        BadField{kText, R"("logit_bias":{"-1":1})", "logit_bias"},
        BadField{kText, R"("logit_bias":{"4294967297":1})", "logit_bias"},
        BadField{kText, R"("bad_words":[1])", "bad_words"},
        BadField{kText, R"("bad_words":{"a":1})", "bad_words"},
        BadField{kTalk, R"("bad_words":["a",""])", "bad_words"},
        BadField{kText, R"("model":7)", "model"}, BadField{kText, R"("prompt":7)", "prompt"},
        BadField{kText, R"("prompt":[])", "prompt"}, BadField{kText, R"("prompt":[[]])", "prompt"},
        BadField{kText, R"("prompt":[1,"a"])", "prompt"},
        BadField{kText, R"("prompt":[300])", "prompt"},
        BadField{kText, R"("prompt":[-1])", "prompt"}, BadField{kText, R"("prompt":{})", "prompt"},
        BadField{kText, R"("stream_options":[])", "stream_options"},
        BadField{kTalk, R"("logprobs":1)", "logprobs"},
        BadField{kText, R"("spaces_between_special_tokens":"no")", "spaces_between_special_tokens"},
        BadField{kTalk, R"("messages":[])", "messages"},
        BadField{kTalk, R"("messages":"hi")", "messages"},
        BadField{kTalk, R"("messages":[1])", "messages[0]"},
        BadField{kTalk, R"("messages":[{"content":"x"}])", "messages[0].role"},
        BadField{kTalk, R"("messages":[{"role":"user"}])", "messages[0].content"},
        BadField{kTalk, R"("messages":[{"role":"user","content":5}])", "messages[0].content"},
        BadField{kTalk,
                 R"("messages":[{"role":"user","content":[{"type":"text","text":"a"},)"
                 R"({"type":"image_url","image_url":{"url":"data:,"}}]}])",
                 "messages[0].content[1]"},
        BadField{kTalk, R"("tools":{})", "tools"}, BadField{kTalk, R"("tools":[{}])", "tools[0]"},
        BadField{kTalk, R"("chat_template_kwargs":[])", "chat_template_kwargs"}));

INSTANTIATE_TEST_SUITE_P(
    Formats, BadFieldTest,
    ::testing::Values(
        // The model of this test has no tokenizer.
        BadField{kText, R"("guided_json":{"type":"object"})", "guided_json"},
        BadField{kText, R"("structured_outputs":{"regex":"a"})", "structured_outputs.regex"},
        BadField{kText, R"("response_format":{"type":"json_object"})", "response_format"},
        BadField{kText, R"("guided_json":7)", "guided_json"},
        BadField{kText, R"("guided_json":"{")", "guided_json"},
        BadField{kText, R"("guided_choice":["a",1])", "guided_choice"},
        BadField{kText, R"("guided_json_object":"yes")", "guided_json_object"},
        BadField{kText, R"("guided_regex":"a","guided_choice":["a"])", "guided_choice"},
        BadField{kText, R"("structured_outputs":[])", "structured_outputs"},
        BadField{kText, R"("structured_outputs":{"structural_tag":"a"})",
                 "structured_outputs.structural_tag"},
        BadField{kText, R"("structured_outputs":{"regex":"a","json":{}})",
                 "structured_outputs.json"},
        BadField{kTalk, R"("response_format":"json")", "response_format"},
        BadField{kTalk, R"("response_format":{"type":"xml"})", "response_format"},
        BadField{kTalk, R"("response_format":{"type":"json_schema"})",
                 "response_format.json_schema"},
        BadField{kTalk, R"("response_format":{"type":"json_schema","json_schema":{"schema":{}}})",
                 "response_format.json_schema.name"},
        BadField{kTalk, R"("response_format":{"type":"json_schema","json_schema":{"name":"a"}})",
                 "response_format.json_schema.schema"}));

INSTANTIATE_TEST_SUITE_P(
    WhatWouldChangeTheResultSilently, BadFieldTest,
    ::testing::Values(BadField{kText, R"("suffix":"z")", "suffix"},
                      BadField{kText, R"("use_beam_search":true)", "use_beam_search"},
                      BadField{kTalk, R"("tool_choice":"required")", "tool_choice"},
                      BadField{kTalk,
                               R"("tool_choice":{"type":"function","function":{"name":"f"}})",
                               "tool_choice"},
                      BadField{kTalk, R"("functions":[{"name":"f"}])", "functions"},
                      BadField{kTalk, R"("echo":true)", "echo"},
                      BadField{kTalk, R"("modalities":["audio"])", "modalities"}));

TEST(Refusals, FieldsThatAreEmptyNullOrUnknownAreNoError) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response = client.Post(
      "/v1/completions",
      R"({"prompt":"x","suffix":null,"guided_json":null,"bad_words":[],"temperature":null,)"
      R"("response_format":{"type":"text"},"use_beam_search":false,)"
      R"("no_such_field":{"a":[1]},"best_of":1})");
  EXPECT_EQ(response.status, 200) << response.body;
}

std::string MessageOf(const ClientResponse& response) {
  return json::parse(response.body)["error"]["message"].get<std::string>();
}

TEST(Refusals, MalformedJsonSaysWhere) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response = client.Post("/v1/completions", "{\"prompt\":\n \"x\",,}");
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(MessageOf(response), HasSubstr("line 2, column 6"));
  EXPECT_EQ(client.Post("/v1/completions", "").status, 400);
  EXPECT_EQ(client.Post("/v1/completions", "[1]").status, 400);
}

TEST(Refusals, InvalidUtf8IsA400) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response = client.Post("/v1/completions", "{\"prompt\":\"a\xFF\"}");
  EXPECT_EQ(response.status, 400);
  EXPECT_FALSE(json::parse(response.body, nullptr, false).is_discarded())
      << "the answer itself is valid UTF-8";
}

TEST(Refusals, DeepOrWideJsonIsA400AndNoCrash) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const std::string deep(200000, '[');
  EXPECT_THAT(MessageOf(client.Post("/v1/completions", deep)), HasSubstr("nested deeper"));
  std::string wide = "{\"prompt\":\"x\"";
  for (int i = 0; i < 2000; ++i) wide += ",\"k" + std::to_string(i) + "\":0";
  EXPECT_THAT(MessageOf(client.Post("/v1/completions", wide + "}")), HasSubstr("members"));
}

TEST(Refusals, APromptBeyondTheContextNamesBothNumbers) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response =
      client.Post("/v1/completions", R"({"prompt":")" + std::string(5000, 'a') + R"("})");
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(MessageOf(response), HasSubstr("5001"));
  EXPECT_THAT(MessageOf(response), HasSubstr("4096"));
}

TEST(Refusals, UnknownModelsAreA404) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response =
      client.Post("/v1/completions", R"({"model":"gpt-9","prompt":"x"})");
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(json::parse(response.body)["error"]["param"], "model");
  EXPECT_EQ(client.Get("/v1/models/gpt-9").status, 404);
  EXPECT_EQ(client.Get("/v1/models/alias").status, 200);
}

TEST(Refusals, AFullQueueIsA429WithRetryAfter) {
  HttpTalk talk;
  talk.engine.set_submit_status(absl::ResourceExhaustedError("1024 requests are waiting"));
  HttpClient client(talk.port());
  const ClientResponse response = client.Post("/v1/completions", R"({"prompt":"x","n":2})");
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.count("retry-after"), 1);
  EXPECT_EQ(talk.log.Wait(1).at(0).code, 429);
}

TEST(Refusals, DrainingIsA503WithRetryAfter) {
  HttpTalk talk;
  talk.service->set_phase(ServingPhase::kDraining);
  HttpClient client(talk.port());
  for (const ClientResponse& response :
       {client.Post("/v1/completions", R"({"prompt":"x"})"), client.Get("/ready")}) {
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.headers.count("retry-after"), 1);
  }
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST(Refusals, DrainingWaitsForTheOtherChoicesOfACall) {
  HttpTalk* server = nullptr;
  std::thread draining;
  std::atomic<bool> drains = false;
  std::atomic<int> submitted = 0, before = -1;
  HttpTalk talk([&](const GenerateRequest& request) {
    if (++submitted ==
        1) {  // under way, and half of the call is not: an engine may drain from here on
      draining = std::thread([&] {
        server->service->set_phase(ServingPhase::kDraining);
        before = submitted.load();
        drains = true;
      });
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
      while (!drains && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    }
    return FakeEngine::Repeat(request);
  });
  server = &talk;
  HttpClient client(talk.port());
  EXPECT_EQ(client.Post("/v1/completions", R"({"prompt":"x","n":8})").status, 200);
  draining.join();
  EXPECT_EQ(before, 8);
  EXPECT_EQ(client.Post("/v1/completions", R"({"prompt":"x"})").status, 503);
}

TEST(Refusals, ACallThatWouldWaitTooLongIsA429ThatSaysHowLong) {
  HttpTalk talk;
  EngineLoad queue;
  queue.num_waiting = 30;
  queue.has_turns = true;
  queue.waiting = Waiting({{-1, 10, 100, "anonymous", 100}, {0, 20, 200, "anonymous", 200}});
  queue.requests_per_second = 2;
  talk.engine.set_queue(queue);
  HttpClient client(talk.port());
  const auto ask = [&](const std::string& more) {
    return client.Post("/v1/completions", R"({"prompt":"x","max_tokens":1)" + more + "}");
  };
  EXPECT_EQ(ask("").status, 200);  // nothing was said about waiting
  const ClientResponse refused = ask(R"(,"ttft_timeout_ms":6000)");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.find("retry-after")->second, "15");
  EXPECT_EQ(ask(R"(,"timeout_ms":6000)").status, 429);
  EXPECT_EQ(ask(R"(,"ttft_timeout_ms":16000)").status, 200);
  EXPECT_EQ(ask(R"(,"ttft_timeout_ms":6000,"priority":-1)").status, 200);  // 5 s
  ServerConfig config = *talk.config.Get();
  config.limits.queue_ttl = absl::Seconds(1);
  talk.config.Set(std::move(config));
  EXPECT_EQ(ask("").status, 429);
}

TEST(Refusals, ADeadlineBeforeTheFirstTokenIsA408) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, false);
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText("/v1/completions",
                                   R"({"prompt":"x","ttft_timeout_ms":1,"stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  while (SystemClock::Get().Now() <= *talk.engine.submitted()[0].first_token_deadline)
    std::this_thread::yield();
  talk.engine.StepUntilIdle();
  EXPECT_EQ(client.Read().status, 408);
  EXPECT_EQ(talk.log.Wait(1).at(0).code, 408);
  EXPECT_EQ(talk.metrics.cancelled_deadline.value(), 1);
}

TEST(Refusals, AnEngineFaultBeforeTheFirstTokenIsA500) {
  HttpTalk talk;
  talk.engine.set_fault(absl::InternalError("the device is lost"));
  HttpClient client(talk.port());
  const ClientResponse response = client.Post("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(MessageOf(response), HasSubstr("the device is lost"));
  EXPECT_EQ(talk.metrics.success_error.value(), 1);
}

TEST(Refusals, AFaultInsideAStreamIsOneErrorEventAndTheEnd) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, false);
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText("/v1/completions", R"({"prompt":[65],"stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  ASSERT_TRUE(client.FillUntil("\"text\":"));
  talk.engine.set_fault(absl::InternalError("the device is lost"));
  talk.engine.Step();
  const ClientResponse response = client.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, HasSubstr("data: {\"error\":{\"message\":\"the device is lost\""));
  EXPECT_THAT(response.body, ::testing::Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(client.AtEnd());
}

TEST(Keys, AreAskedForOnEveryRouteButHealthAndReady) {
  HttpTalk talk(FakeEngine::Repeat, {}, {"secret"});
  HttpClient client(talk.port());
  EXPECT_EQ(client.Get("/v1/models").status, 401);
  EXPECT_EQ(client.Post("/v1/completions", R"({"prompt":"x"})").status, 401);
  EXPECT_EQ(client.Post("/tokenize", R"({"prompt":"x"})", "Authorization: Bearer wrong\r\n").status,
            401);
  EXPECT_EQ(client.Get("/v1/models", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(client.Get("/v1/models", "x-api-key: secret\r\n").status, 200);
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_EQ(client.Get("/ready").status, 200);
  EXPECT_EQ(client.Get("/metrics").status, 200) << "from this machine";
}

TEST(StatusRoutes, TellWhatIsServed) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const json models = json::parse(client.Get("/v1/models").body);
  ASSERT_EQ(models["data"].size(), 2);
  EXPECT_EQ(models["data"][0]["id"], "demo");
  EXPECT_EQ(models["data"][1]["id"], "alias");
  EXPECT_EQ(models["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(json::parse(client.Get("/version").body)["version"], "1.2.3");
  EXPECT_THAT(client.Get("/metrics").body, HasSubstr("vllm:generation_tokens_total"));
  talk.engine.set_healthy(false);
  EXPECT_EQ(client.Get("/ready").status, 503);
  EXPECT_EQ(client.Get("/health").status, 503);
}

TEST(TokenRoutes, EncodeAndDecode) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const json answer =
      json::parse(client.Post("/tokenize", R"({"prompt":"AB","return_token_strs":true})").body);
  EXPECT_EQ(answer["tokens"], json({256, 65, 66}));
  EXPECT_EQ(answer["count"], 3);
  EXPECT_EQ(answer["max_model_len"], 4096);
  EXPECT_EQ(answer["token_strs"], json({"<bos>", "A", "B"}));
  EXPECT_EQ(json::parse(client.Post("/detokenize", R"({"tokens":[65,66]})").body)["prompt"], "AB");
  EXPECT_EQ(json::parse(client.Post("/tokenize", R"({"prompt":""})").body)["count"], 0);
  EXPECT_EQ(client.Post("/detokenize", R"({"tokens":[999]})").status, 400);
  EXPECT_EQ(client.Post("/detokenize", R"({"tokens":"x"})").status, 400);
}

}  // namespace
}  // namespace penstock
