// /v1/responses over a loopback socket, on a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "api/openai/response_store.h"
#include "fakes/http_talk.h"
#include "fakes/sse_events.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kResponsesPath = "/v1/responses";

struct ResponsesTalk : HttpTalk {
  explicit ResponsesTalk(FakeEngine::Script script = FakeEngine::Always(Ids("Yes.")),
                         LimitsSection limits = {}, std::vector<std::string> keys = {},
                         bool start_engine = true)
      : HttpTalk(std::move(script), limits, std::move(keys), start_engine) {
    model->chat_template = &chat_template;
  }
  json Post(const std::string& body, int status = 200, std::string_view headers = "") {
    HttpClient client(port());
    const ClientResponse response = client.Post(kResponsesPath, body, headers);
    EXPECT_EQ(response.status, status) << response.body;
    return json::parse(response.body, nullptr, false);
  }
  /// (status, body)
  std::pair<int, json> Ask(const std::string& method, const std::string& id,
                           const std::string& headers = "") {
    HttpClient client(port());
    client.Send(
        absl::StrCat(method, " /v1/responses/", id, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n"));
    const ClientResponse response = client.Read();
    return {response.status, json::parse(response.body, nullptr, false)};
  }
  /// What the engine was given last, as text.
  std::string prompt() const { return tokenizer.Decode(engine.submitted().back().prompt, false); }

  ChatTemplate chat_template = PlainTemplate();
};

TEST(Responses, AnswerAsTheOpenAiApiDoes) {
  ResponsesTalk talk;
  const json answer = talk.Post(
      R"({"model":"demo","input":"Hi","instructions":"Be brief.","max_output_tokens":40,)"
      R"("temperature":0.5,"metadata":{"a":"b"},"reasoning":{"effort":"low"},)"
      R"("text":{"format":{"type":"text"}},"tools":[],"tool_choice":"auto","top_logprobs":0,)"
      R"("include":["reasoning.encrypted_content"],"truncation":"disabled","user":"u"})");
  EXPECT_EQ(talk.prompt(), "system:Be brief.;user:Hi;A:");
  EXPECT_EQ(answer["object"], "response");
  EXPECT_EQ(answer["status"], "completed");
  EXPECT_EQ(answer["model"], "demo");
  EXPECT_EQ(answer["instructions"], "Be brief.");
  EXPECT_EQ(answer["max_output_tokens"], 40);
  EXPECT_EQ(answer["temperature"], 0.5);
  EXPECT_EQ(answer["top_p"], 1);
  EXPECT_EQ(answer["metadata"], json::parse(R"({"a":"b"})"));
  EXPECT_EQ(answer["reasoning"]["effort"], "low");
  EXPECT_TRUE(answer["previous_response_id"].is_null());
  EXPECT_TRUE(answer["error"].is_null());
  EXPECT_TRUE(answer["incomplete_details"].is_null());
  EXPECT_THAT(answer["id"].get<std::string>(), HasSubstr("resp_"));
  ASSERT_EQ(answer["output"].size(), 1);
  const json& item = answer["output"][0];
  EXPECT_EQ(item["type"], "message");
  EXPECT_EQ(item["role"], "assistant");
  EXPECT_EQ(item["status"], "completed");
  EXPECT_EQ(item["content"][0]["type"], "output_text");
  EXPECT_EQ(item["content"][0]["text"], "Yes.");
  EXPECT_EQ(item["content"][0]["annotations"], json::array());
  EXPECT_EQ(answer["usage"]["input_tokens"], 27);
  EXPECT_EQ(answer["usage"]["output_tokens"], 4);
  EXPECT_EQ(answer["usage"]["total_tokens"], 31);
  EXPECT_FLOAT_EQ(talk.engine.submitted()[0].sampling.temperature, 0.5f);
}

TEST(Responses, TakeItemsAndSayWhereTheyAreCut) {
  ResponsesTalk talk;
  const json answer = talk.Post(
      R"({"max_output_tokens":2,"input":[{"role":"developer","content":"d"},)"
      R"({"type":"message","role":"user","content":[{"type":"input_text","text":"a"},)"
      R"({"type":"input_text","text":"b"}]},{"type":"message","id":"m","status":"completed",)"
      R"("role":"assistant","content":[{"type":"output_text","text":"c","annotations":[]}]},)"
      R"({"role":"user","content":"e"}]})");
  EXPECT_EQ(talk.prompt(), "system:d;user:a\nb;assistant:c;user:e;A:");
  EXPECT_EQ(answer["status"], "incomplete");
  EXPECT_EQ(answer["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(answer["output"][0]["status"], "incomplete");
  EXPECT_EQ(answer["output"][0]["content"][0]["text"], "Ye");
}

constexpr std::string_view kThoughtAndCalls =
    "<think>Hm.</think>I ask.<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>"
    "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>";
constexpr std::string_view kTwoTools =
    R"("tools":[{"type":"function","name":"f","parameters":{"type":"object"}},)"
    R"({"type":"function","name":"g"}])";

struct ToolsTalk : ResponsesTalk {
  ToolsTalk() : ResponsesTalk(FakeEngine::Always(Ids(kThoughtAndCalls))) {
    model->call_format = CallFormatOf("<tool_call></tool_call>");
    model->reasoning_format = ReasoningFormatOf("</think>");
  }
};

TEST(Responses, HandOutReasoningTextAndCallsAsItems) {
  ToolsTalk talk;
  const json answer = talk.Post(std::string(R"({"input":"x",)") + std::string(kTwoTools) + "}");
  const json& output = answer["output"];
  ASSERT_EQ(output.size(), 4) << answer;
  EXPECT_EQ(output[0]["type"], "reasoning");
  EXPECT_EQ(output[0]["content"][0]["text"], "Hm.");
  EXPECT_EQ(output[1]["content"][0]["text"], "I ask.");
  EXPECT_EQ(output[2]["type"], "function_call");
  EXPECT_EQ(output[2]["name"], "f");
  EXPECT_EQ(output[2]["arguments"], "{\"a\":1}");
  EXPECT_EQ(output[3]["name"], "g");
  EXPECT_NE(output[2]["call_id"], output[3]["call_id"]);
  EXPECT_EQ(answer["tools"][0]["name"], "f");
  EXPECT_GT(answer["usage"]["output_tokens_details"]["reasoning_tokens"], 0);
  const json one = talk.Post(std::string(R"({"input":"x","parallel_tool_calls":false,)") +
                             std::string(kTwoTools) + "}");
  EXPECT_EQ(one["output"].size(), 3);
  EXPECT_EQ(one["parallel_tool_calls"], false);
}

TEST(Responses, StreamTheirItemsOneAfterTheOther) {
  ToolsTalk talk;
  HttpClient client(talk.port());
  const ClientResponse response = client.Post(
      kResponsesPath, std::string(R"({"input":"x","stream":true,)") + std::string(kTwoTools) + "}");
  const std::vector<json> events = TypedEvents(response.body);
  std::map<int, std::string> texts;
  int64_t opened = -1, closed = -1;
  for (size_t i = 0; i < events.size(); ++i) {
    const json& event = events[i];
    const std::string type = event["type"];
    EXPECT_EQ(event["sequence_number"], i);
    if (type == "response.output_item.added") {
      EXPECT_EQ(event["output_index"], ++opened);
    }
    if (type.ends_with(".delta")) texts[event["output_index"]] += event["delta"].get<std::string>();
    if (type == "response.output_item.done") {
      EXPECT_EQ(event["output_index"], ++closed);
      EXPECT_EQ(opened, closed);
      EXPECT_EQ(event["item"], events.back()["response"]["output"][closed]);
    }
  }
  EXPECT_EQ(closed, 3);
  EXPECT_EQ(texts,
            (std::map<int, std::string>{{0, "Hm."}, {1, "I ask."}, {2, "{\"a\":1}"}, {3, "{}"}}));
}

TEST(Responses, GoOnFromCallsAndListWhatTheyWereGiven) {
  ToolsTalk talk;
  const ChatTemplate shows =
      ChatTemplate::Parse(
          "{% for m in messages %}{{ m.role }}:{{ m.reasoning_content }}|{{ m.content }}"
          "{% for c in m.tool_calls or [] %}[{{ c.id }} {{ c.function.name }} "
          "{{ c.function.arguments.a }}]{% endfor %}{{ m.tool_call_id }};{% endfor %}")
          .value();
  talk.model->chat_template = &shows;
  const json answer = talk.Post(
      R"({"input":[{"role":"user","content":"x"},{"type":"reasoning","id":"rs","summary":[],)"
      R"("content":[{"type":"reasoning_text","text":"why"}]},)"
      R"({"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\":1}"},)"
      R"({"type":"function_call","call_id":"c2","name":"f","arguments":"{\"a\":2}"},)"
      R"({"type":"function_call_output","call_id":"c1","output":"one"},)"
      R"({"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"}]}]})");
  EXPECT_EQ(talk.prompt(), "user:|x;assistant:why|None[c1 f 1][c2 f 2];tool:|onec1;tool:|twoc2;");
  const std::string id = answer["id"];
  const auto [status, items] = talk.Ask("GET", id + "/input_items?order=asc");
  EXPECT_EQ(status, 200);
  ASSERT_EQ(items["data"].size(), 6);
  EXPECT_EQ(items["data"][0]["content"][0]["text"], "x");
  EXPECT_EQ(items["data"][1]["id"], "rs");
  EXPECT_EQ(items["data"][4]["output"], "one");
  EXPECT_EQ(items["has_more"], false);
  const auto ids = [&](const std::string& query) {
    const auto [code, page] = talk.Ask("GET", id + "/input_items" + query);
    EXPECT_EQ(code, 200) << page;
    std::string text;
    for (const json& item : page["data"]) text += item["id"].get<std::string>() + " ";
    if (!page["data"].empty()) {
      EXPECT_EQ(page["first_id"], page["data"].front()["id"]);
      EXPECT_EQ(page["last_id"], page["data"].back()["id"]);
    }
    return text + (page["has_more"] == true ? "more" : "all");
  };
  std::vector<std::string> all;
  for (const json& item : items["data"]) all.push_back(item["id"]);
  EXPECT_EQ(ids("?limit=2"), all[5] + " " + all[4] + " more");
  EXPECT_EQ(ids("?limit=2&after=" + all[1]), all[0] + " all");
  EXPECT_EQ(ids("?order=asc&limit=100&after=" + all[3]), all[4] + " " + all[5] + " all");
  EXPECT_EQ(ids("?after=" + all[0]), "all");
  EXPECT_EQ(ids("?order=asc&limit=1&include%5B%5D=reasoning.encrypted_content&x=1"),
            all[0] + " more");
  for (const char* bad :
       {"limit=0", "limit=101", "limit=x", "order=up", "after=none", "include=x"}) {
    const auto [code, refusal] = talk.Ask("GET", id + "/input_items?" + bad);
    EXPECT_EQ(code, 400) << bad;
    const std::string name(bad);
    EXPECT_EQ(refusal["error"]["param"], name.substr(0, name.find('=')));
  }
  EXPECT_EQ(talk.Ask("GET", "resp_no/input_items").first, 404);
  EXPECT_EQ(talk.Ask("DELETE", id + "/input_items").first, 405);
  EXPECT_EQ(talk.Ask("DELETE", id).first, 200);
}

TEST(Responses, GoOnFromKeptOnes) {
  ResponsesTalk talk;
  const json first = talk.Post(R"({"input":"one","instructions":"old"})");
  const std::string id = first["id"];
  const json second =
      talk.Post(R"({"input":"two","instructions":"new","previous_response_id":")" + id + "\"}");
  EXPECT_EQ(talk.prompt(), "system:new;user:one;assistant:Yes.;user:two;A:");
  EXPECT_EQ(second["previous_response_id"], id);
  const std::string next = second["id"];
  talk.Post(R"({"input":"three","previous_response_id":")" + next + "\"}");
  EXPECT_EQ(talk.prompt(), "user:one;assistant:Yes.;user:two;assistant:Yes.;user:three;A:");
  EXPECT_EQ(talk.Ask("GET", id), (std::pair{200, first}));
  const auto [status, gone] = talk.Ask("DELETE", id);
  EXPECT_EQ(status, 200);
  EXPECT_EQ(gone["deleted"], true);
  EXPECT_EQ(gone["id"], id);
  EXPECT_EQ(talk.Ask("GET", id).first, 404);
  EXPECT_EQ(talk.Ask("DELETE", id).first, 404);
  const json refused = talk.Post(R"({"input":"x","previous_response_id":")" + id + "\"}", 400);
  EXPECT_EQ(refused["error"]["param"], "previous_response_id");
  talk.Post(R"({"input":"four","previous_response_id":")" + next + "\"}");
  EXPECT_THAT(talk.prompt(), HasSubstr("user:one;")) << "what went on from it keeps its words";
}

TEST(Responses, AreNotKeptWhereTheyShallNotBe) {
  ResponsesTalk talk;
  const json answer = talk.Post(R"({"input":"x","store":false})");
  EXPECT_EQ(answer["store"], false);
  EXPECT_EQ(talk.Ask("GET", answer["id"]).first, 404);
  LimitsSection off;
  off.response_ttl = absl::ZeroDuration();
  ResponsesTalk forgetful(FakeEngine::Repeat, off);
  EXPECT_EQ(forgetful.Ask("GET", forgetful.Post(R"({"input":"x"})")["id"]).first, 404);
}

TEST(Responses, BelongToACredential) {
  ResponsesTalk talk(FakeEngine::Repeat, {}, {"one", "two"});
  const std::string one = "Authorization: Bearer one\r\n", two = "Authorization: Bearer two\r\n";
  const std::string id = talk.Post(R"({"input":"x"})", 200, one)["id"];
  EXPECT_EQ(talk.Ask("GET", id, one).first, 200);
  EXPECT_EQ(talk.Ask("GET", id, two).first, 404);
  EXPECT_EQ(talk.Ask("DELETE", id, two).first, 404);
  EXPECT_EQ(talk.Ask("GET", id).first, 401);
  talk.Post(R"({"input":"x","previous_response_id":")" + id + "\"}", 400, two);
}

TEST(Responses, StreamNumberedEventsInOrder) {
  ResponsesTalk talk(FakeEngine::Always(Ids("ab")), {}, {}, false);
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText(kResponsesPath, R"({"input":"x","stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  ASSERT_TRUE(client.FillUntil("output_text.delta"));
  talk.engine.StepUntilIdle();
  const ClientResponse answered = client.Read();
  const std::vector<json> events = TypedEvents(answered.body);
  ASSERT_THAT(
      TypesOf(events),
      ElementsAre("response.created", "response.in_progress", "response.output_item.added",
                  "response.content_part.added", "response.output_text.delta",
                  "response.output_text.delta", "response.output_text.done",
                  "response.content_part.done", "response.output_item.done", "response.completed"));
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i]["sequence_number"], i);
  EXPECT_EQ(events[0]["response"]["status"], "in_progress");
  EXPECT_TRUE(events[0]["response"]["usage"].is_null());
  const std::string item = events[2]["item"]["id"];
  for (size_t i = 3; i < 8; ++i) {
    EXPECT_EQ(events[i]["item_id"], item);
    EXPECT_EQ(events[i]["output_index"], 0);
    EXPECT_EQ(events[i]["content_index"], 0);
  }
  EXPECT_EQ(events[4]["delta"], "a");
  EXPECT_EQ(events[6]["text"], "ab");
  EXPECT_EQ(events[8]["item"]["content"][0]["text"], "ab");
  const json& whole = events[9]["response"];
  EXPECT_EQ(whole["output"][0], events[8]["item"]);
  EXPECT_EQ(whole["usage"]["output_tokens"], 2);
  EXPECT_EQ(talk.Ask("GET", whole["id"]).second, whole);
}

TEST(Responses, FailInTheStreamAndAreNotKept) {
  ResponsesTalk talk(FakeEngine::Repeat, {}, {}, false);
  HttpClient client(talk.port());
  client.Send(HttpClient::PostText(kResponsesPath, R"({"input":"x","stream":true})"));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk.engine.Step();
  ASSERT_TRUE(client.FillUntil("output_text.delta"));
  talk.engine.set_fault(absl::InternalError("the device is gone"));
  talk.engine.StepUntilIdle();
  const json last = TypedEvents(client.Read().body).back();
  EXPECT_EQ(last["type"], "response.failed");
  EXPECT_EQ(last["response"]["status"], "failed");
  EXPECT_EQ(last["response"]["error"]["message"], "the device is gone");
  EXPECT_EQ(talk.Ask("GET", last["response"]["id"]).first, 404);
}

struct BadResponse {
  const char* body;
  const char* param;
};

class BadResponseTest : public ::testing::TestWithParam<BadResponse> {};

TEST_P(BadResponseTest, IsA400ThatNamesTheField) {
  ResponsesTalk talk;
  const json body = talk.Post(GetParam().body, 400);
  EXPECT_EQ(body["error"]["param"], GetParam().param) << body;
  EXPECT_EQ(talk.engine.submitted().size(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Responses, BadResponseTest,
    ::testing::Values(
        BadResponse{"{}", "input"}, BadResponse{R"({"input":7})", "input"},
        BadResponse{R"({"input":[]})", "input"}, BadResponse{R"({"input":[1]})", "input[0]"},
        BadResponse{R"({"input":[{"role":"user"}]})", "input[0].content"},
        BadResponse{R"({"input":[{"content":"x"}]})", "input[0].role"},
        BadResponse{R"({"input":[{"role":"tool","content":"x"}]})", "input[0].role"},
        BadResponse{R"({"input":[{"role":"user","content":{}}]})", "input[0].content"},
        BadResponse{R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})",
                    "input[0].content[0]"},
        BadResponse{R"({"input":[{"type":"item_reference","id":"a"}]})", "input[0].type"},
        BadResponse{R"({"input":[{"type":"function_call_output","output":"b"}]})",
                    "input[0].call_id"},
        BadResponse{R"({"input":[{"type":"function_call_output","call_id":"a"}]})",
                    "input[0].output"},
        BadResponse{
            R"({"input":[{"type":"function_call","call_id":"a","name":"f","arguments":{}}]})",
            "input[0].arguments"},
        BadResponse{R"({"input":[{"type":"reasoning","content":[{}]}]})", "input[0].content"},
        BadResponse{R"({"input":"x","instructions":[]})", "instructions"},
        BadResponse{R"({"input":"x","max_output_tokens":0})", "max_output_tokens"},
        BadResponse{R"({"input":"x","max_output_tokens":5000})", "max_output_tokens"},
        BadResponse{R"({"input":"x","max_output_tokens":"9"})", "max_output_tokens"},
        BadResponse{R"({"input":"x","temperature":2.1})", "temperature"},
        BadResponse{R"({"input":"x","store":1})", "store"},
        BadResponse{R"({"input":"x","stream":1})", "stream"},
        BadResponse{R"({"input":"x","metadata":{"a":1}})", "metadata"},
        BadResponse{R"({"input":"x","text":{"format":{"type":"json_schema"}}})",
                    "text.format.name"},
        BadResponse{R"({"input":"x","text":{"format":{"type":"xml"}}})", "text.format"},
        BadResponse{R"({"input":"x","reasoning":{"effort":1}})", "reasoning.effort"},
        BadResponse{R"({"input":"x","truncation":"auto"})", "truncation"},
        BadResponse{R"({"input":"x","include":["message.output_text.logprobs"]})", "include"},
        BadResponse{R"({"input":"x","include":"a"})", "include"},
        BadResponse{R"({"input":"x","top_logprobs":2})", "top_logprobs"},
        BadResponse{R"({"input":"x","tools":[{"type":"web_search"}]})", "tools[0].type"},
        BadResponse{R"({"input":"x","tools":[{"type":"function","name":"a b"}]})", "tools[0]"},
        BadResponse{R"({"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":)"
                    R"({"type":"function","name":"g"}})",
                    "tool_choice"},
        BadResponse{R"({"input":"x","tool_choice":"required"})", "tool_choice"},
        BadResponse{R"({"input":"x","background":true})", "background"},
        BadResponse{R"({"input":"x","max_tokens":5})", "max_tokens"},
        BadResponse{R"({"messages":[{"role":"user","content":"x"}]})", "messages"},
        BadResponse{R"({"input":"x","conversation":"c"})", "conversation"},
        BadResponse{R"({"input":"x","prompt":{"id":"p"}})", "prompt"},
        BadResponse{R"({"input":"x","previous_response_id":7})", "previous_response_id"},
        BadResponse{R"({"input":"x","previous_response_id":"resp_none"})",
                    "previous_response_id"}));

TEST(ResponseStore, IsBoundedInBytesAndTime) {
  LimitsSection limits;
  limits.response_ttl = absl::Minutes(1);
  limits.response_memory = {8192};
  FakeClock clock;
  const Live<ServerConfig> config(Talk::WithLimits(limits, {}));
  ResponseStore store(&config, &clock);
  const auto put = [&](const char* id, size_t bytes) {
    auto conversation = std::make_shared<nlohmann::ordered_json>(nlohmann::ordered_json::array());
    conversation->push_back({{"role", "user"}, {"content", std::string(bytes, 'a')}});
    store.Put("c", id, {"body", std::move(conversation), nullptr});
  };
  put("a", 1000);
  put("b", 1000);
  EXPECT_TRUE(store.Find("c", "a"));
  put("c", 3000);  // the conversation counts as well
  EXPECT_FALSE(store.Find("c", "a"));
  EXPECT_TRUE(store.Find("c", "b"));
  put("d", 9000);
  EXPECT_FALSE(store.Find("c", "d"));
  EXPECT_TRUE(store.Find("c", "c"));
  EXPECT_FALSE(store.Find("other", "c"));
  clock.Advance(absl::Minutes(1));
  EXPECT_FALSE(store.Find("c", "c"));
  EXPECT_FALSE(store.Erase("c", "b"));
}

TEST(ResponseStore, CountsWhateverAClientCanMakeLong) {
  using Json = nlohmann::ordered_json;
  LimitsSection limits;
  limits.response_memory = {8192};
  FakeClock clock;
  const Live<ServerConfig> config(Talk::WithLimits(limits, {}));
  const std::string text(5000, 'a');
  const Json call = {{"id", text}, {"function", {{"name", "f"}, {"arguments", "{}"}}}};
  for (const Json& message :
       {Json{{"role", "user"}, {"content", text}},
        Json{{"role", "tool"}, {"tool_call_id", text}, {"content", "x"}},
        Json{{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", text}},
        Json{{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}},
        Json{{"role", "user"}, {"content", Json::array({{{"type", "text"}, {"text", text}}})}},
        Json{{"role", "user"}, {"content", "x"}, {text, 1}}}) {
    ResponseStore store(&config, &clock);
    const auto put = [&](const char* id, Json conversation, Json items) {
      store.Put("c", id,
                {"", std::make_shared<Json>(std::move(conversation)),
                 std::make_shared<Json>(std::move(items))});
    };
    put("a", Json::array({message}), Json::array());
    EXPECT_TRUE(store.Find("c", "a")) << message;
    put("b", Json::array(), Json::array({message}));
    EXPECT_FALSE(store.Find("c", "a")) << message;
    EXPECT_TRUE(store.Find("c", "b")) << message;
  }
}

TEST(ResponseStore, KeepsNoConversationThatIsLongerThanABodyMayBe) {
  LimitsSection limits;
  limits.max_body = {2048};
  FakeClock clock;
  const Live<ServerConfig> config(Talk::WithLimits(limits, {}));
  ResponseStore store(&config, &clock);
  for (const size_t bytes : {1000, 2048}) {
    auto conversation = std::make_shared<nlohmann::ordered_json>(nlohmann::ordered_json::array());
    conversation->push_back({{"role", "user"}, {"content", std::string(bytes, 'a')}});
    store.Put("c", std::to_string(bytes), {"body", std::move(conversation), nullptr});
    EXPECT_EQ(store.Find("c", std::to_string(bytes)).has_value(), bytes == 1000);
  }
}

}  // namespace
}  // namespace penstock
