// /v1/messages over a loopback socket, on a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/anthropic/routes.h"
#include "fakes/http_talk.h"
#include "fakes/sse_events.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kMessagesPath = "/v1/messages";

struct MessagesTalk : HttpTalk {
  explicit MessagesTalk(FakeEngine::Script script = FakeEngine::Repeat,
                        std::vector<std::string> keys = {}, bool start_engine = true)
      : HttpTalk(std::move(script), {}, std::move(keys), start_engine, {}, AddAnthropicRoutes) {
    model->chat_template = &chat_template;
  }
  json Post(const std::string& body, int status = 200, const char* path = kMessagesPath) {
    HttpClient client(port());
    const ClientResponse response = client.Post(path, body);
    EXPECT_EQ(response.status, status) << response.body;
    EXPECT_EQ(response.headers.count("request-id"), 1);
    return json::parse(response.body, nullptr, false);
  }
  /// What the engine was given last, as text.
  std::string prompt() const { return tokenizer.Decode(engine.submitted().back().prompt, false); }

  ChatTemplate chat_template = PlainTemplate();
};

TEST(Messages, AnswerAsTheAnthropicApiDoes) {
  MessagesTalk talk(FakeEngine::Always(Ids("Hello.")));
  const json answer = talk.Post(
      R"({"model":"demo","max_tokens":10,"system":"Be brief.",)"
      R"("messages":[{"role":"user","content":"Hi"}],"temperature":0.5,"top_k":3,"top_p":0.9,)"
      R"("stop_sequences":["zz"],"metadata":{"user_id":"u"},"thinking":{"type":"disabled"}})");
  EXPECT_EQ(talk.prompt(), "system:Be brief.;user:Hi;A:");
  EXPECT_EQ(answer["type"], "message");
  EXPECT_EQ(answer["role"], "assistant");
  EXPECT_EQ(answer["model"], "demo");
  EXPECT_THAT(answer["id"].get<std::string>(), HasSubstr("msg_"));
  EXPECT_EQ(answer["content"], json::parse(R"([{"type":"text","text":"Hello."}])"));
  EXPECT_EQ(answer["stop_reason"], "end_turn");
  EXPECT_TRUE(answer["stop_sequence"].is_null());
  EXPECT_EQ(answer["usage"]["input_tokens"], 27);
  EXPECT_EQ(answer["usage"]["output_tokens"], 6);
  EXPECT_EQ(answer["usage"]["cache_read_input_tokens"], 0);
  const SamplingParams sampling = talk.engine.submitted()[0].sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.9f);
  EXPECT_EQ(sampling.top_k, 3);
}

TEST(Messages, SayWhyTheyEnd) {
  MessagesTalk talk(FakeEngine::Always(Ids("one STOP two")));
  const std::string start = R"({"messages":[{"role":"user","content":"x"}],"max_tokens":)";
  const json stopped = talk.Post(start + R"(40,"stop_sequences":["STOP"]})");
  EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
  EXPECT_EQ(stopped["stop_sequence"], "STOP");
  EXPECT_EQ(stopped["content"][0]["text"], "one ");
  EXPECT_EQ(talk.Post(start + "3}")["stop_reason"], "max_tokens");
}

TEST(Messages, JoinTurnsAndBlocksAndContinueTheAssistant) {
  MessagesTalk talk;
  const std::string tail = R"(],"max_tokens":1})";
  talk.Post(R"({"system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"messages":[)"
            R"({"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d",)"
            R"("cache_control":{"type":"ephemeral"}}]},{"role":"user","content":"e"},)"
            R"({"role":"assistant","content":"f"},{"role":"system","content":"s"},)"
            R"({"role":"user","content":"g"})" +
            tail);
  EXPECT_EQ(talk.prompt(), "system:a\nb;user:c\nd\ne;assistant:f;system:s;user:g;A:");
  const std::string user = R"({"messages":[{"role":"user","content":"c"},)";
  talk.Post(user + R"({"role":"assistant","content":"so"})" + tail);
  EXPECT_EQ(talk.prompt(), "user:c;assistant:so");
  talk.Post(user + R"({"role":"assistant","content":""})" + tail);
  EXPECT_EQ(talk.prompt(), "user:c;A:");
}

TEST(Messages, StreamTheEventsInOrder) {
  MessagesTalk talk(FakeEngine::Always(Ids("ab")), {}, false);
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText(
      kMessagesPath,
      R"({"messages":[{"role":"user","content":"x"}],"max_tokens":9,"stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  ASSERT_TRUE(client.FillUntil("text_delta"));
  talk.engine.StepUntilIdle();
  const ClientResponse response = client.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.headers.at("content-type"), HasSubstr("text/event-stream"));
  EXPECT_EQ(response.headers.count("request-id"), 1);
  const std::vector<json> events = TypedEvents(response.body);
  ASSERT_THAT(TypesOf(events), ElementsAre("message_start", "content_block_start", "ping",
                                           "content_block_delta", "content_block_delta",
                                           "content_block_stop", "message_delta", "message_stop"));
  const json& message = events[0]["message"];
  EXPECT_EQ(message["content"], json::array());
  EXPECT_EQ(message["usage"]["input_tokens"], 9);
  EXPECT_EQ(message["usage"]["output_tokens"], 0);
  EXPECT_EQ(events[1]["content_block"], json::parse(R"({"type":"text","text":""})"));
  EXPECT_EQ(events[3]["delta"], json::parse(R"({"type":"text_delta","text":"a"})"));
  EXPECT_EQ(events[6]["delta"]["stop_reason"], "end_turn");
  EXPECT_EQ(events[6]["usage"]["output_tokens"], 2);
}

struct ToolsTalk : MessagesTalk {
  ToolsTalk()
      : MessagesTalk(FakeEngine::Always(
            Ids("<think>Hm.</think>I ask.<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}"
                "</tool_call><tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>"))) {
    model->call_format = CallFormatOf("<tool_call></tool_call>");
    model->reasoning_format = ReasoningFormatOf("</think>");
  }
};
constexpr const char* kAskWithTools =
    R"({"max_tokens":400,"messages":[{"role":"user","content":"x"}],)"
    R"("tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},)"
    R"({"name":"g","input_schema":{"type":"object"}}])";

TEST(Messages, HandOutThinkingTextAndToolUse) {
  ToolsTalk talk;
  const json answer = talk.Post(std::string(kAskWithTools) + "}");
  const json& content = answer["content"];
  ASSERT_EQ(content.size(), 4) << answer;
  EXPECT_EQ(content[0], json::parse(R"({"type":"thinking","thinking":"Hm.","signature":""})"));
  EXPECT_EQ(content[1]["text"], "I ask.");
  EXPECT_EQ(content[2]["type"], "tool_use");
  EXPECT_EQ(content[2]["name"], "f");
  EXPECT_EQ(content[2]["input"], json::parse(R"({"a":1})"));
  EXPECT_THAT(content[2]["id"].get<std::string>(), HasSubstr("toolu_"));
  EXPECT_EQ(content[3]["input"], json::object());
  EXPECT_EQ(answer["stop_reason"], "tool_use");
  const json one = talk.Post(std::string(kAskWithTools) +
                             R"(,"tool_choice":{"type":"auto","disable_parallel_tool_use":true}})");
  EXPECT_EQ(one["content"].size(), 3);
  const json none = talk.Post(std::string(kAskWithTools) + R"(,"tool_choice":{"type":"none"}})");
  EXPECT_EQ(none["stop_reason"], "end_turn");
  EXPECT_THAT(none["content"][1]["text"].get<std::string>(), HasSubstr("<tool_call>"));
}

TEST(Messages, StreamTheirBlocksOneAfterTheOther) {
  ToolsTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response =
      client.Post(kMessagesPath, std::string(kAskWithTools) + R"(,"stream":true})");
  std::vector<std::string> texts;
  size_t closed = 0;
  for (const json& event : TypedEvents(response.body)) {
    if (event["type"] == "content_block_start") {
      EXPECT_EQ(event["index"], texts.size());
      EXPECT_EQ(closed, texts.size());
      texts.emplace_back();
      if (event["content_block"]["type"] == "tool_use") {
        EXPECT_EQ(event["content_block"]["input"], json::object());
      }
    }
    if (event["type"] == "content_block_stop") {
      EXPECT_EQ(event["index"], closed++);
    }
    if (event["type"] == "message_delta") {
      EXPECT_EQ(event["delta"]["stop_reason"], "tool_use");
    }
    if (event["type"] != "content_block_delta") continue;
    const json& delta = event["delta"];
    for (const char* name : {"text", "thinking", "partial_json"})
      texts.back() += delta.value(name, "");
  }
  EXPECT_THAT(texts, ElementsAre("Hm.", "I ask.", "{\"a\":1}", "{}"));
  EXPECT_EQ(closed, 4u);
}

TEST(Messages, TakeResultsOfTools) {
  MessagesTalk talk;
  const ChatTemplate shows =
      ChatTemplate::Parse(
          "{{ tools[0].function.parameters.type }} {{ thinking }};{% for m in messages %}"
          "{{ m.role }}:{{ m.reasoning_content }}|{{ m.content }}{% for c in m.tool_calls or [] %}"
          "[{{ c.id }} {{ c.function.name }} {{ c.function.arguments.a }}]{% endfor %}"
          "{{ m.tool_call_id }};{% endfor %}")
          .value();
  talk.model->chat_template = &shows;
  talk.Post(
      R"({"max_tokens":4,"thinking":{"type":"enabled","budget_tokens":50},"tools":[{"name":"f",)"
      R"("input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"x"},)"
      R"({"role":"assistant","content":[{"type":"thinking","thinking":"why","signature":""},)"
      R"({"type":"text","text":"I ask."},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}},)"
      R"({"type":"tool_use","id":"t2","name":"f","input":{"a":2}}]},)"
      R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"one"},)"
      R"({"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"two"}]},)"
      R"({"type":"text","text":"Well?"}]}]})");
  EXPECT_EQ(talk.prompt(),
            "object True;user:|x;assistant:why|I ask.[t1 f 1][t2 f 2];tool:|onet1;tool:|twot2;"
            "user:|Well?;");
}

TEST(Messages, CountTokensOfWhatTheyWouldRead) {
  MessagesTalk talk;
  const json counted = talk.Post(R"({"system":"ab","messages":[{"role":"user","content":"cd"}]})",
                                 200, "/v1/messages/count_tokens");
  EXPECT_EQ(counted, json::parse(R"({"input_tokens":20})"));  // system:ab;user:cd;A:
  EXPECT_EQ(talk.engine.submitted().size(), 0);
}

TEST(Messages, CountTokensOnlyOfWhatWouldBeTaken) {
  MessagesTalk talk;
  const std::string path = "/v1/messages/count_tokens";
  const std::string start = R"({"messages":[{"role":"user","content":"x"}])";
  EXPECT_EQ(talk.Post(start + R"(,"temperature":7})", 400, path.c_str())["error"]["param"],
            "temperature");
  EXPECT_EQ(talk.Post(R"({"system":"ab"})", 400, path.c_str())["error"]["param"], "messages");
}

TEST(Messages, EndABrokenStreamWithAnErrorEvent) {
  MessagesTalk talk(FakeEngine::Repeat, {}, false);
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText(
      kMessagesPath,
      R"({"messages":[{"role":"user","content":"x"}],"max_tokens":9,"stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  ASSERT_TRUE(client.FillUntil("text_delta"));
  talk.engine.set_fault(absl::InternalError("the device is gone"));
  talk.engine.StepUntilIdle();
  const std::vector<json> events = TypedEvents(client.Read().body);
  EXPECT_EQ(events.back()["type"], "error");
  EXPECT_EQ(events.back()["error"]["type"], "api_error");
  EXPECT_EQ(events.back()["error"]["message"], "the device is gone");
}

TEST(Messages, AreCancelledWithTheirClient) {
  MessagesTalk talk(FakeEngine::Repeat, {}, false);
  {
    HttpClient client(talk.port());
    client.Send(HttpClient::PostText(
        kMessagesPath, R"({"messages":[{"role":"user","content":"x"}],"max_tokens":9})"));
    ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  }
  while (talk.engine.num_cancelled() == 0) std::this_thread::yield();
}

struct BadMessage {
  const char* fields;  // members of the body
  const char* param;
};

class BadMessageTest : public ::testing::TestWithParam<BadMessage> {};

TEST_P(BadMessageTest, IsA400InTheEnvelope) {
  MessagesTalk talk;
  const json body = talk.Post(std::string("{") + GetParam().fields + "}", 400);
  EXPECT_EQ(body["type"], "error");
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_EQ(body["error"]["param"], GetParam().param) << body;
  EXPECT_EQ(body["request_id"].get<std::string>().size(), 32);
  EXPECT_EQ(talk.engine.submitted().size(), 0);
}

#define OF_X R"("messages":[{"role":"user","content":"x"}])"
INSTANTIATE_TEST_SUITE_P(
    Messages, BadMessageTest,
    ::testing::Values(
        BadMessage{OF_X, "max_tokens"}, BadMessage{OF_X R"(,"max_tokens":0)", "max_tokens"},
        BadMessage{OF_X R"(,"max_tokens":"1")", "max_tokens"},
        BadMessage{OF_X R"(,"max_tokens":5000)", "max_tokens"},
        BadMessage{R"("max_tokens":1)", "messages"},
        BadMessage{R"("max_tokens":1,"messages":[])", "messages"},
        BadMessage{R"("max_tokens":1,"messages":{})", "messages"},
        BadMessage{R"("max_tokens":1,"messages":[1])", "messages[0]"},
        BadMessage{R"("max_tokens":1,"messages":[{"content":"x"}])", "messages[0].role"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"tool","content":"x"}])",
                   "messages[0].role"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":["user"],"content":"x"}])",
                   "messages[0].role"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"user"}])", "messages[0].content"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"user","content":1}])",
                   "messages[0].content"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"user","content":""}])", "messages"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"user","content":[]}])", "messages"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"user","content":[{"type":"image",)"
                   R"("source":{}}]}])",
                   "messages[0].content[0]"},
        BadMessage{R"("max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_use",)"
                   R"("id":"a","name":"f","input":{}}]}])",
                   "messages[0].content[0]"},
        BadMessage{OF_X R"(,"max_tokens":1,"system":7)", "system"},
        BadMessage{OF_X R"(,"max_tokens":1,"system":[{"type":"text"}])", "system[0]"},
        BadMessage{OF_X R"(,"max_tokens":1,"temperature":3)", "temperature"},
        BadMessage{OF_X R"(,"max_tokens":1,"stop_sequences":[""])", "stop_sequences"},
        BadMessage{OF_X R"(,"max_tokens":1,"stop_sequences":[7])", "stop_sequences"},
        BadMessage{OF_X R"(,"max_tokens":1,"tools":[{"name":"f"}])", "tools[0].input_schema"},
        BadMessage{OF_X R"(,"max_tokens":1,"tools":[{"type":"bash_20250124","name":"bash"}])",
                   "tools[0].type"},
        BadMessage{OF_X R"(,"max_tokens":1,"tool_choice":{"type":"any"})", "tool_choice"},
        BadMessage{OF_X R"(,"max_tokens":1,"thinking":{"type":"enabled","budget_tokens":-9})",
                   "thinking.budget_tokens"},
        BadMessage{OF_X R"(,"max_tokens":1,"thinking":{"type":"deep"})", "thinking"},
        BadMessage{OF_X R"(,"max_tokens":1,"metadata":[])", "metadata"},
        BadMessage{OF_X R"(,"max_tokens":1,"stream":"yes")", "stream"},
        BadMessage{OF_X R"(,"max_tokens":1,"n":2)", "n"},
        BadMessage{OF_X R"(,"max_tokens":1,"stop":"x")", "stop"},
        BadMessage{OF_X R"(,"max_tokens":1,"output_config":{"format":{}})", "output_config.format"},
        BadMessage{OF_X R"(,"max_tokens":1,"output_config":{"effort":1})", "output_config.effort"},
        BadMessage{OF_X R"(,"max_tokens":1,"output_config":"high")", "output_config"},
        BadMessage{OF_X R"(,"max_tokens":1,"output_format":{"type":"json_schema"})",
                   "output_format.schema"}));
#undef OF_X

TEST(Messages, RefuseInTheEnvelopeWhoeverRefuses) {
  MessagesTalk talk(FakeEngine::Repeat, {"key"});
  HttpClient client(talk.port());
  const auto ask = [&](std::string_view headers, int status, const char* type) {
    const ClientResponse response = client.Post(
        kMessagesPath,
        R"({"model":"other","max_tokens":1,"messages":[{"role":"user","content":"x"}]})", headers);
    EXPECT_EQ(response.status, status) << response.body;
    EXPECT_EQ(json::parse(response.body)["error"]["type"], type);
  };
  ask("", 401, "authentication_error");
  ask("x-api-key: key\r\n", 404, "not_found_error");
  ask("Authorization: Bearer key\r\n", 404, "not_found_error");
  ask("x-api-key: key\r\nContent-Encoding: br\r\n", 415, "invalid_request_error");
  const ClientResponse wrong = client.Get(kMessagesPath);
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(json::parse(wrong.body)["type"], "error");
  talk.engine.set_submit_status(absl::ResourceExhaustedError("the queue is full"));
  const ClientResponse full =
      client.Post(kMessagesPath, R"({"max_tokens":1,"messages":[{"role":"user","content":"x"}]})",
                  "x-api-key: key\r\n");
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.headers.at("retry-after"), "1");
  EXPECT_EQ(json::parse(full.body)["error"]["type"], "rate_limit_error");
}

}  // namespace
}  // namespace penstock
