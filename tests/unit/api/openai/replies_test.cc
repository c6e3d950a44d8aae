// Chat answers that hold reasoning and calls of functions, over a loopback socket, on a fake engine
// that answers with a given text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "fakes/http_talk.h"
#include "fakes/sse_events.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::string_view kReply =
    "<think>\nThe weather.\n</think>\n\nI ask.\n<tool_call>\n{\"name\": \"weather\", "
    "\"arguments\": "
    "{\"city\": "
    "\"Köln\"}}\n</tool_call>\n<tool_call>{\"name\":\"time\",\"arguments\":{}}</tool_call>";
constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}])";

std::vector<TokenId> WithEos(std::string_view text) {
  std::vector<TokenId> ids = Ids(text);
  ids.push_back(FakeTokenizer::kEos);
  return ids;
}

class Replies : public ::testing::Test {
 protected:
  void Serve(std::string_view reply) {
    talk_ = std::make_unique<HttpTalk>(FakeEngine::Always(WithEos(reply)));
    template_ = PlainTemplate();
    talk_->model->chat_template = &template_;
    talk_->model->call_format = CallFormatOf("<tool_call></tool_call>");
    talk_->model->reasoning_format = ReasoningFormatOf("</think>");
  }
  std::string Post(std::string_view more) {
    HttpClient client(talk_->port());
    const ClientResponse response =
        client.Post("/v1/chat/completions",
                    absl::StrCat(R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":600)",
                                 ToAbsl(more), "}"));
    EXPECT_EQ(response.status, 200) << response.body;
    return response.body;
  }
  json Answer(std::string_view more) { return json::parse(Post(more)); }

  ChatTemplate template_ = PlainTemplate();
  std::unique_ptr<HttpTalk> talk_;
};

TEST_F(Replies, ComeApart) {
  Serve(kReply);
  const json answer = Answer(absl::StrCat(",", ToAbsl(kTools)));
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  const json& message = choice["message"];
  EXPECT_EQ(message["content"], "I ask.");
  EXPECT_EQ(message["reasoning_content"], "The weather.");
  EXPECT_EQ(message["reasoning"], "The weather.");
  ASSERT_EQ(message["tool_calls"].size(), 2u);
  const json& first = message["tool_calls"][0];
  EXPECT_EQ(first["type"], "function");
  EXPECT_EQ(first["function"]["name"], "weather");
  EXPECT_EQ(first["function"]["arguments"], "{\"city\": \"Köln\"}");
  EXPECT_EQ(message["tool_calls"][1]["function"]["arguments"], "{}");
  EXPECT_NE(first["id"], message["tool_calls"][1]["id"]);
  EXPECT_GT(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 10);
  EXPECT_LT(answer["usage"]["completion_tokens_details"]["reasoning_tokens"],
            answer["usage"]["completion_tokens"]);
}

TEST_F(Replies, StreamTheSame) {
  Serve(kReply);
  const std::string body = Post(absl::StrCat(R"(,"stream":true,)", ToAbsl(kTools)));
  std::string content, reasoning, finish;
  std::vector<json> calls;
  for (absl::string_view event : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
    ASSERT_TRUE(absl::ConsumePrefix(&event, "data: "));
    if (event == "[DONE]") break;
    const json choice = json::parse(std::string(event))["choices"][0];
    const json& delta = choice["delta"];
    content += delta.value("content", "");
    reasoning += delta.value("reasoning_content", "");
    EXPECT_EQ(delta.value("reasoning", ""), delta.value("reasoning_content", ""));
    for (const json& call : delta.value("tool_calls", json::array())) {
      const size_t index = call["index"];
      if (index == calls.size()) {
        EXPECT_TRUE(call.contains("id"));
        calls.push_back(call);
        continue;
      }
      ASSERT_EQ(index + 1, calls.size());
      EXPECT_FALSE(call.contains("id"));
      EXPECT_FALSE(call["function"].contains("name"));
      json& arguments = calls.back()["function"]["arguments"];
      arguments = arguments.get<std::string>() + call["function"]["arguments"].get<std::string>();
    }
    if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
  }
  EXPECT_EQ(content, "I ask.");
  EXPECT_EQ(reasoning, "The weather.");
  EXPECT_EQ(finish, "tool_calls");
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0]["function"]["name"], "weather");
  EXPECT_EQ(calls[0]["function"]["arguments"], "{\"city\": \"Köln\"}");
  EXPECT_EQ(calls[1]["function"]["name"], "time");
  EXPECT_EQ(calls[1]["function"]["arguments"], "{}");
}

TEST_F(Replies, KeepCallsInTheTextWhereNoneAreAskedFor) {
  Serve(kReply);
  const std::string text(kReply.substr(kReply.find("I ask.")));
  for (const std::string more :
       {std::string(), absl::StrCat(",", ToAbsl(kTools), R"(,"tool_choice":"none")")}) {
    const json choice = Answer(more)["choices"][0];
    EXPECT_EQ(choice["message"]["content"], text);
    EXPECT_EQ(choice["message"]["tool_calls"], json::array());
    EXPECT_EQ(choice["finish_reason"], "stop");
  }
}

TEST_F(Replies, AreContentWhereTheCallIsNone) {
  const std::string reply = "See <tool_call>weather(Köln)</tool_call>";
  Serve(reply);
  const json choice = Answer(absl::StrCat(",", ToAbsl(kTools)))["choices"][0];
  EXPECT_EQ(choice["message"]["content"], reply);
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_THAT(talk_->catalogue.Text(),
              HasSubstr("penstock_failed_tool_calls_total{engine=\"0\",model_name=\"demo\"} 1"));
}

TEST_F(Replies, MayGoOnReasoningThatThePromptBegan) {
  Serve("Hm.</think>Yes.");
  const json message =
      Answer(R"(,"chat_template":"{{ messages[0].content }}<assistant><think>\n")")["choices"][0]
                                                                                   ["message"];
  EXPECT_EQ(message["reasoning_content"], "Hm.");
  EXPECT_EQ(message["content"], "Yes.");
}

TEST_F(Replies, EndInReasoningWhereTheyAreCut) {
  Serve("<think>Well, well, well");
  const json answer = Answer("");
  EXPECT_EQ(answer["choices"][0]["message"]["reasoning_content"], "Well, well, well");
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "");
}

}  // namespace
}  // namespace penstock
