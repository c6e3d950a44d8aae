// Chats over gRPC, on a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "fakes/grpc_talk.h"
#include "text/chat_template.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The engine says the rendered chat again.
class GrpcChat : public ::testing::Test {
 protected:
  explicit GrpcChat(bool start_engine = false) : talk_(FakeEngine::Repeat, {}, {}, start_engine) {
    SetTemplate(
        "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
        "{% if add_generation_prompt %}A:{% endif %}");
  }
  void SetTemplate(std::string_view source) {
    auto parsed = ChatTemplate::Parse(std::string(source));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    chat_template_.emplace(*std::move(parsed));
    talk_.model->chat_template = &*chat_template_;
  }
  static v1::ChatRequest Say(const std::string& text, int64_t max_tokens) {
    v1::ChatRequest request;
    v1::ChatMessage* message = request.add_messages();
    message->set_role("user");
    message->set_content(text);
    request.set_max_tokens(max_tokens);
    return request;
  }
  /// The text that the engine was given.
  std::string Rendered(const v1::ChatRequest& request) {
    grpc::ClientContext context;
    v1::ChatResponse response;
    const size_t before = talk_.engine.submitted().size();
    const grpc::Status status = talk_.stub->Chat(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    const auto submitted = talk_.engine.submitted();
    if (submitted.size() != before + 1) return "nothing";
    return talk_.tokenizer.Decode(submitted.back().prompt, false);
  }
  struct Refusal {
    grpc::StatusCode code;
    std::string field, message;
  };
  Refusal Refuse(const v1::ChatRequest& request) {
    grpc::ClientContext context;
    v1::ChatResponse response;
    const grpc::Status status = talk_.stub->Chat(&context, request, &response);
    return {status.error_code(), FieldAtFault(context), status.error_message()};
  }

  std::optional<ChatTemplate> chat_template_;
  GrpcTalk talk_;
};

class GrpcChatRunning : public GrpcChat {
 protected:
  GrpcChatRunning() : GrpcChat(true) {}
};

TEST_F(GrpcChatRunning, AnswersAsTheAssistant) {
  v1::ChatRequest request = Say("ab", 9);
  request.set_n(2);
  request.set_logprobs(true);
  request.set_top_logprobs(2);
  request.set_return_token_ids(true);
  request.set_prompt_logprobs(1);
  request.set_model("alias");
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "mine");
  v1::ChatResponse response;
  ASSERT_TRUE(talk_.stub->Chat(&context, request, &response).ok());
  EXPECT_EQ(response.id(), "mine");
  EXPECT_EQ(response.model(), "alias");
  ASSERT_EQ(response.choices_size(), 2);
  for (int i = 0; i < 2; ++i) {
    const v1::ChatChoice& choice = response.choices(i);
    EXPECT_EQ(choice.index(), i);
    EXPECT_EQ(choice.message().role(), "assistant");
    EXPECT_EQ(choice.message().content(), "user:ab;A");
    EXPECT_EQ(choice.finish_reason(), v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(choice.token_ids_size(), 9);
    ASSERT_EQ(choice.logprobs_size(), 9);
    EXPECT_EQ(choice.logprobs(0).token().token(), "u");
    EXPECT_EQ(choice.logprobs(0).top_size(), 2);
  }
  EXPECT_EQ(response.prompt_token_ids_size(), 10);
  ASSERT_EQ(response.prompt_logprobs_size(), 10) << "once, not per choice";
  EXPECT_EQ(response.prompt_logprobs(0).token().rank(), 0);
  EXPECT_EQ(response.prompt_logprobs(0).token().logprob(), 0);
  EXPECT_EQ(response.prompt_logprobs(1).token().token(), "s");
  EXPECT_EQ(response.prompt_logprobs(1).token().logprob(), -1.5f);
  EXPECT_EQ(response.prompt_logprobs(1).top_size(), 1);
  EXPECT_EQ(response.usage().prompt_tokens(), 10);
  EXPECT_EQ(response.usage().completion_tokens(), 18);
  EXPECT_EQ(talk_.log.Wait(1).at(0).protocol, "grpc");
}

TEST_F(GrpcChatRunning, TokenizesAConversationAsTheEngineIsGivenIt) {
  v1::TokenizeRequest request;
  *request.mutable_chat() = Say("ab", 1);
  grpc::ClientContext context;
  v1::TokenizeResponse response;
  ASSERT_TRUE(talk_.stub->Tokenize(&context, request, &response).ok());
  const std::vector<TokenId> ids(response.ids().begin(), response.ids().end());
  EXPECT_EQ(talk_.tokenizer.Decode(ids, false), Rendered(request.chat()));
  request.mutable_chat()->clear_messages();
  grpc::ClientContext empty;
  EXPECT_EQ(talk_.stub->Tokenize(&empty, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldAtFault(empty), "messages");
}

/// Trailing metadata is of printable ASCII, and gRPC ends the process where it is not.
TEST_F(GrpcChat, NamesTheFieldAtFaultInAnyLanguage) {
  v1::ChatRequest request = Say("ab", 1);
  request.set_structured_outputs(R"({"\u00e9\n\u0000 x":1})");
  Refusal refusal = Refuse(request);
  EXPECT_EQ(refusal.code, grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refusal.field, "structured_outputs.%C3%A9%0A%00 x");
  request.set_structured_outputs("{\"" + std::string(1 << 20, 'a') + "\":1}");
  refusal = Refuse(request);
  EXPECT_EQ(refusal.code, grpc::StatusCode::INVALID_ARGUMENT) << refusal.message;
  EXPECT_TRUE(refusal.field.starts_with("structured_outputs.aaa")) << refusal.field;
}

TEST_F(GrpcChatRunning, JoinsPartsAndHandsOnWhatTemplatesRead) {
  v1::ChatRequest request = Say("a", 1);
  auto* parts = request.add_messages();
  parts->set_role("user");
  for (const char* text : {"b", "c"}) {
    v1::ContentPart* part = parts->mutable_content_parts()->add_parts();
    part->set_type("text");
    part->set_text(text);
  }
  EXPECT_EQ(Rendered(request), "user:a;user:b\nc;A:");
  request.set_add_generation_prompt(false);
  EXPECT_EQ(Rendered(request), "user:a;user:b\nc;");
  request.clear_add_generation_prompt();
  request.set_chat_template("{{ messages[0].content }}!");
  EXPECT_EQ(Rendered(request), "a!");
  request = Say("a", 1);
  v1::ChatMessage* assistant = request.add_messages();
  assistant->set_role("assistant");
  v1::ToolCall* call = assistant->add_tool_calls();
  call->set_id("c1");
  call->set_name("add");
  call->set_arguments(R"({"x": 2})");
  v1::ChatMessage* result = request.add_messages();
  result->set_role("tool");
  result->set_tool_call_id("c1");
  result->set_content("4");
  request.add_tools(
      R"({"type": "function", "function": {"name": "add", "parameters": {"b": 1.0, "a": 2}}})");
  request.add_documents(R"({"title": "t"})");
  request.set_chat_template_kwargs(R"({"style": {"loud": true}})");
  SetTemplate(
      "{{ tools[0].function | tojson }}|{{ documents[0].title }}|{{ style.loud }}|"
      "{{ messages[1].tool_calls[0].function.arguments.x + 1 }}|{{ messages[2].tool_call_id }}");
  EXPECT_EQ(Rendered(request), R"({"name": "add", "parameters": {"b": 1.0, "a": 2}}|t|True|3|c1)");
}

TEST_F(GrpcChatRunning, StreamsTheRoleWithTheFirstTokenAndTheUsageLast) {
  v1::ChatRequest request = Say("ab", 9);
  request.set_n(2);
  request.set_return_token_ids(true);
  grpc::ClientContext context;
  const auto reader = talk_.stub->ChatStream(&context, request);
  std::vector<std::string> texts(2), roles(2);
  std::vector<int> finishes(2);
  int num_prompt_ids = 0, num_pieces = 0;
  v1::ChatResponse piece, last;
  while (reader->Read(&piece)) {
    num_prompt_ids += piece.prompt_token_ids_size();
    if (num_pieces++ > 0) {
      EXPECT_EQ(piece.prompt_token_ids_size(), 0);
    }
    for (const v1::ChatChoice& choice : piece.choices()) {
      const size_t i = choice.index();
      if (texts[i].empty()) {
        EXPECT_FALSE(choice.message().content().empty()) << "the role alone is no token";
        EXPECT_EQ(choice.message().role(), "assistant");
      }
      texts[i] += choice.message().content();
      roles[i] += choice.message().role();
      finishes[i] += choice.finish_reason();
    }
    last = piece;
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(texts, ElementsAre("user:ab;A", "user:ab;A"));
  EXPECT_THAT(roles, ElementsAre("assistant", "assistant"));
  EXPECT_THAT(finishes, ElementsAre(v1::FINISH_REASON_LENGTH, v1::FINISH_REASON_LENGTH));
  EXPECT_EQ(num_prompt_ids, 10);
  EXPECT_THAT(last.choices(), IsEmpty());
  EXPECT_EQ(last.usage().completion_tokens(), 18);
}

TEST_F(GrpcChatRunning, RefusesMessagesByTheNameOfTheEntry) {
  EXPECT_EQ(Refuse({}).field, "messages");
  v1::ChatRequest request = Say("x", 1);
  request.mutable_messages(0)->set_role("");
  EXPECT_EQ(Refuse(request).field, "messages[0].role");
  request = Say("x", 1);
  request.add_messages()->set_role("user");
  EXPECT_EQ(Refuse(request).field, "messages[1].content");
  auto* parts = request.mutable_messages(1)->mutable_content_parts();
  parts->add_parts()->set_type("text");
  EXPECT_EQ(Refuse(request).field, "messages[1].content[0]");
  parts->mutable_parts(0)->set_text("y");
  parts->add_parts()->set_text("no type");
  EXPECT_EQ(Refuse(request).field, "messages[1].content[1]");
  parts->mutable_parts(1)->set_type("image_url");
  const Refusal refusal = Refuse(request);
  EXPECT_EQ(refusal.code, grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refusal.field, "messages[1].content[1]");
  EXPECT_EQ(
      refusal.message,
      "messages[1].content[1] is of type \"image_url\": only text is supported by this model");
  EXPECT_THAT(talk_.engine.submitted(), IsEmpty());
  EXPECT_EQ(talk_.log.Wait(6).size(), 6) << "each refusal is a line of the log";
}

TEST_F(GrpcChatRunning, RefusesFieldsAsHttpDoes) {
  struct Case {
    void (*spoil)(v1::ChatRequest&);
    const char* field;
  };
  for (const auto& [spoil, field] : std::initializer_list<Case>{
           {[](v1::ChatRequest& r) { r.set_temperature(2.5); }, "temperature"},
           {[](v1::ChatRequest& r) { r.set_top_logprobs(3); }, "top_logprobs"},
           {[](v1::ChatRequest& r) { r.set_max_tokens(0); }, "max_tokens"},
           {[](v1::ChatRequest& r) { r.set_max_completion_tokens(1 << 20); },
            "max_completion_tokens"},
           {[](v1::ChatRequest& r) { r.set_n(INT64_MAX); }, "n"},
           {[](v1::ChatRequest& r) { r.set_prompt_logprobs(21); }, "prompt_logprobs"},
           {[](v1::ChatRequest& r) { r.set_priority(INT64_MIN); }, "priority"},
           {[](v1::ChatRequest& r) { r.add_stop(""); }, "stop"},
           {[](v1::ChatRequest& r) { r.add_allowed_token_ids(-1); }, "allowed_token_ids"},
           {[](v1::ChatRequest& r) { (*r.mutable_logit_bias())[300] = 1; }, "logit_bias"},
           {[](v1::ChatRequest& r) { r.set_truncate_prompt_tokens(-2); }, "truncate_prompt_tokens"},
           {[](v1::ChatRequest& r) { r.set_stream_interval(0); }, "stream_interval"},
           {[](v1::ChatRequest& r) { r.set_timeout_ms(-5); }, "timeout_ms"},
           {[](v1::ChatRequest& r) { r.set_chat_template("{% if %}"); }, "chat_template"},
           {[](v1::ChatRequest& r) { r.add_tools("{\"type\": "); }, "tools[0]"},
           {[](v1::ChatRequest& r) { r.add_tools("[]"); }, "tools[0]"},
           {[](v1::ChatRequest& r) { r.add_tools(std::string(5000, '[')); }, "tools[0]"},
           {[](v1::ChatRequest& r) { r.add_documents(""); }, "documents[0]"},
           {[](v1::ChatRequest& r) { r.set_chat_template_kwargs("7"); }, "chat_template_kwargs"},
           {[](v1::ChatRequest& r) { r.set_chat_template_kwargs("{"); }, "chat_template_kwargs"},
           {[](v1::ChatRequest& r) {
              r.set_continue_final_message(true);
              r.set_add_generation_prompt(true);
            },
            "continue_final_message"},
       }) {
    v1::ChatRequest request = Say("x", 1);
    spoil(request);
    const Refusal refusal = Refuse(request);
    EXPECT_EQ(refusal.code, grpc::StatusCode::INVALID_ARGUMENT) << field;
    EXPECT_EQ(refusal.field, field);
    EXPECT_THAT(refusal.message, HasSubstr(field));
  }
  v1::ChatRequest request = Say("x", 1);
  request.set_model("gpt-9");
  EXPECT_EQ(Refuse(request).code, grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Refuse(request).field, "model");
  EXPECT_THAT(talk_.engine.submitted(), IsEmpty());
}

TEST_F(GrpcChat, ACancelledChatCancelsTheRequest) {
  grpc::ClientContext context;
  const auto reader = talk_.stub->ChatStream(&context, Say("x", 1000));
  ASSERT_TRUE(talk_.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  talk_.engine.Step();
  v1::ChatResponse piece;
  ASSERT_TRUE(reader->Read(&piece));
  context.TryCancel();
  while (talk_.engine.num_cancelled() == 0) std::this_thread::yield();
  talk_.engine.Step();
  EXPECT_EQ(talk_.engine.num_live(), 0);
  EXPECT_EQ(talk_.log.Wait(1).at(0).code, 499);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcChat, ACallsDeadlineIsTheChats) {
  v1::ChatRequest request = Say("x", 1000);
  request.set_timeout_ms(60'000);
  const absl::Duration timeout = WithDeadlines(talk_.engine, [&](grpc::ClientContext& context) {
    v1::ChatResponse response;
    EXPECT_EQ(talk_.stub->Chat(&context, request, &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  const auto deadline = talk_.engine.submitted()[0].deadline;
  ASSERT_TRUE(deadline);
  EXPECT_LE(*deadline, SystemClock::Get().Now() + timeout);
  while (talk_.engine.num_cancelled() == 0) std::this_thread::yield();
  talk_.engine.StepUntilIdle();
}

class GrpcReplies : public GrpcChat {
 protected:
  GrpcReplies() : talk_tools_(FakeEngine::Always(Ids(kReply))) {
    SetTemplate("{{ messages[0].content }}");
    talk_tools_.model->chat_template = talk_.model->chat_template;
    talk_tools_.model->call_format = CallFormatOf("<tool_call></tool_call>");
    talk_tools_.model->reasoning_format = ReasoningFormatOf("</think>");
    request_ = Say("x", 400);
    request_.add_tools(R"({"type":"function","function":{"name":"f"}})");
  }
  static constexpr std::string_view kReply =
      "<think>Hm.</think>I ask.<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>"
      "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>";
  GrpcTalk talk_tools_;
  v1::ChatRequest request_;
};

TEST_F(GrpcReplies, ComeApart) {
  grpc::ClientContext context;
  v1::ChatResponse response;
  ASSERT_TRUE(talk_tools_.stub->Chat(&context, request_, &response).ok());
  const v1::ChatChoice& choice = response.choices(0);
  EXPECT_EQ(choice.message().reasoning_content(), "Hm.");
  EXPECT_EQ(choice.message().content(), "I ask.");
  ASSERT_EQ(choice.message().tool_calls_size(), 2);
  EXPECT_EQ(choice.message().tool_calls(0).name(), "f");
  EXPECT_EQ(choice.message().tool_calls(0).arguments(), "{\"a\":1}");
  EXPECT_EQ(choice.message().tool_calls(1).index(), 1);
  EXPECT_EQ(choice.finish_reason(), v1::FINISH_REASON_TOOL_CALLS);
  EXPECT_GT(response.usage().reasoning_tokens(), 0);
}

TEST_F(GrpcReplies, StreamInPieces) {
  request_.set_parallel_tool_calls(false);
  grpc::ClientContext context;
  const auto reader = talk_tools_.stub->ChatStream(&context, request_);
  v1::ChatResponse piece;
  std::string reasoning, content, arguments, names;
  while (reader->Read(&piece)) {
    for (const v1::ChatChoice& choice : piece.choices()) {
      reasoning += choice.message().reasoning_content();
      content += choice.message().content();
      for (const v1::ToolCall& call : choice.message().tool_calls()) {
        EXPECT_EQ(call.index(), 0);
        EXPECT_EQ(call.id().empty(), call.name().empty());
        names += call.name();
        arguments += call.arguments();
      }
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(reasoning, "Hm.");
  EXPECT_EQ(content, "I ask.");
  EXPECT_EQ(names, "f");
  EXPECT_EQ(arguments, "{\"a\":1}");
}

TEST_F(GrpcReplies, RefuseAChoiceThatIsNone) {
  request_.set_tool_choice("perhaps");
  EXPECT_EQ(Refuse(request_).field, "tool_choice");
  request_.set_tool_choice(R"({"type":"function","function":{"name":"other"}})");
  EXPECT_EQ(Refuse(request_).field, "tool_choice");
}

}  // namespace
}  // namespace penstock
