// Idempotency-Key over a loopback socket: repeats, joins, conflicts and what is not kept.
#include "api/http/idempotency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fakes/http_talk.h"

namespace penstock {
namespace {

using nlohmann::json;

constexpr const char* kKeyedPath = "/v1/completions";
constexpr const char* kKeyed = "Idempotency-Key: a\r\n";
constexpr const char* kKeyedBody = R"({"prompt":"abc","max_tokens":3})";

json KeyedError(const ClientResponse& response) { return json::parse(response.body)["error"]; }

TEST(Idempotency, RepeatsTheAnswerOfTheSameRequest) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse first = client.Post(kKeyedPath, kKeyedBody, kKeyed);
  ASSERT_EQ(first.status, 200) << first.body;
  EXPECT_EQ(first.headers.count("idempotent-replayed"), 0);
  HttpClient other(talk.port());
  const ClientResponse second = other.Post(kKeyedPath, kKeyedBody, kKeyed);
  EXPECT_EQ(second.status, 200);
  EXPECT_EQ(second.body, first.body) << "the same id, the same tokens";
  EXPECT_EQ(second.headers.at("idempotent-replayed"), "true");
  EXPECT_NE(second.headers.at("x-request-id"), first.headers.at("x-request-id"));
  EXPECT_EQ(talk.engine.submitted().size(), 1);
  // Another key, another path and no key are other requests.
  EXPECT_NE(client.Post(kKeyedPath, kKeyedBody, "Idempotency-Key: b\r\n").body, first.body);
  EXPECT_NE(client.Post(kKeyedPath, kKeyedBody).body, first.body);
  EXPECT_EQ(talk.engine.submitted().size(), 3);
}

TEST(Idempotency, RefusesAnotherBodyAndALongKey) {
  HttpTalk talk;
  HttpClient client(talk.port());
  ASSERT_EQ(client.Post(kKeyedPath, kKeyedBody, kKeyed).status, 200);
  const ClientResponse other =
      client.Post(kKeyedPath, R"({"prompt":"abc","max_tokens":4})", kKeyed);
  EXPECT_EQ(other.status, 400);
  EXPECT_EQ(KeyedError(other)["param"], "Idempotency-Key");
  const ClientResponse longer =
      client.Post(kKeyedPath, kKeyedBody, "Idempotency-Key: " + std::string(256, 'k') + "\r\n");
  EXPECT_EQ(longer.status, 400);
  EXPECT_EQ(KeyedError(longer)["param"], "Idempotency-Key");
  EXPECT_EQ(talk.engine.submitted().size(), 1);
}

TEST(Idempotency, RepeatsAStreamAndLetsOthersJoinIt) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, false);
  constexpr const char* kStream = R"({"prompt":"abc","max_tokens":3,"stream":true})";
  HttpClient first(talk.port()), second(talk.port()), third(talk.port());
  first.Send(HttpClient::PostText(kKeyedPath, kStream, kKeyed));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  second.Send(HttpClient::PostText(kKeyedPath, kStream, kKeyed));
  EXPECT_EQ(third.Post(kKeyedPath, "{}", kKeyed).status, 400);  // so the second has joined
  talk.engine.StepUntilIdle();
  const ClientResponse one = first.Read(), two = second.Read();
  EXPECT_EQ(one.status, 200);
  EXPECT_THAT(one.body, ::testing::EndsWith("data: [DONE]\n\n"));
  EXPECT_EQ(one.body, two.body);
  const ClientResponse later = third.Post(kKeyedPath, kStream, kKeyed);
  EXPECT_EQ(later.body, one.body);
  EXPECT_EQ(later.headers.at("content-type"), one.headers.at("content-type"));
  EXPECT_EQ(later.headers.at("idempotent-replayed"), "true");
  EXPECT_EQ(talk.engine.submitted().size(), 1);
}

TEST(Idempotency, KeepsCredentialsApart) {
  HttpTalk talk(FakeEngine::Repeat, {}, {"one", "two"});
  HttpClient client(talk.port());
  const ClientResponse one =
      client.Post(kKeyedPath, kKeyedBody, std::string(kKeyed) + "Authorization: Bearer one\r\n");
  const ClientResponse two =
      client.Post(kKeyedPath, kKeyedBody, std::string(kKeyed) + "Authorization: Bearer two\r\n");
  EXPECT_EQ(two.status, 200);
  EXPECT_NE(one.body, two.body);
  EXPECT_EQ(talk.engine.submitted().size(), 2);
}

TEST(Idempotency, JoinsTheRequestThatRuns) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, false);
  HttpClient first(talk.port()), second(talk.port());
  first.Send(HttpClient::PostText(kKeyedPath, kKeyedBody, kKeyed));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  second.Send(HttpClient::PostText(kKeyedPath, kKeyedBody, kKeyed));
  HttpClient third(talk.port());  // refused by the running one's body, so the second has joined
  EXPECT_EQ(third.Post(kKeyedPath, "{}", kKeyed).status, 400);
  talk.engine.StepUntilIdle();
  const ClientResponse one = first.Read(), two = second.Read();
  EXPECT_EQ(one.status, 200);
  EXPECT_EQ(two.status, 200);
  EXPECT_EQ(one.body, two.body);
  EXPECT_EQ(talk.engine.submitted().size(), 1);
}

TEST(Idempotency, CancelsOnceAllClientsAreGone) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, false);
  {
    HttpClient first(talk.port());
    first.Send(HttpClient::PostText(kKeyedPath, kKeyedBody, kKeyed));
    ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 1; }));
  }
  while (talk.engine.num_cancelled() == 0) std::this_thread::yield();
  // What is being cancelled takes nobody in: the request begins anew.
  HttpClient again(talk.port());
  again.Send(HttpClient::PostText(kKeyedPath, kKeyedBody, kKeyed));
  ASSERT_TRUE(talk.engine.WaitFor([](size_t submitted, size_t) { return submitted == 2; }));
  talk.engine.StepUntilIdle();
  EXPECT_EQ(again.Read().status, 200);
}

TEST(Idempotency, LetsWhatFailedBeTriedAgain) {
  HttpTalk talk;
  HttpClient client(talk.port());
  talk.engine.set_submit_status(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(client.Post(kKeyedPath, kKeyedBody, kKeyed).status, 429);
  talk.engine.set_submit_status(absl::OkStatus());
  EXPECT_EQ(client.Post(kKeyedPath, kKeyedBody, kKeyed).status, 200);
}

TEST(Idempotency, IsBoundedInBytesAndIgnoredWhereItIsOff) {
  LimitsSection small;
  small.idempotency_memory = {1};
  HttpTalk talk(FakeEngine::Repeat, small);
  HttpClient client(talk.port());
  EXPECT_NE(client.Post(kKeyedPath, kKeyedBody, kKeyed).body,
            client.Post(kKeyedPath, kKeyedBody, kKeyed).body);
  LimitsSection off;
  off.idempotency_ttl = absl::ZeroDuration();
  HttpTalk plain(FakeEngine::Repeat, off);
  HttpClient other(plain.port());
  EXPECT_NE(other.Post(kKeyedPath, kKeyedBody, kKeyed).body,
            other.Post(kKeyedPath, kKeyedBody, kKeyed).body);
}

/// An exchange in memory.
class PlainExchange final : public HttpExchange {
 public:
  explicit PlainExchange(std::string key, std::string body = "b") {
    request_.path = "/p";
    request_.idempotency_key = std::move(key);
    request_.body = std::move(body);
  }
  HttpRequest& request() override { return request_; }
  void Respond(HttpResponse response) override { response_ = std::move(response); }
  void StartStream(std::string_view, const HttpHeaders&) override {}
  void Write(std::string_view) override {}
  void EndStream(bool) override {}
  bool started() const override { return response_.status != 0; }
  bool congested() override { return false; }
  void Watch(std::function<void(CancelReason)>, std::function<void()>) override {}
  const HttpResponse& response() const { return response_; }

 private:
  HttpRequest request_;
  HttpResponse response_{.status = 0, .content_type = {}, .headers = {}, .body = {}};
};

TEST(Idempotency, ForgetsWithTimeAndTheOldestFirst) {
  LimitsSection limits;
  limits.idempotency_ttl = absl::Minutes(1);
  limits.idempotency_memory = {2 * 1024};
  Live<ServerConfig> config(Talk::WithLimits(limits, {}));
  FakeClock clock;
  int runs = 0;
  const Endpoint endpoint = IdempotencyStore::Wrap(
      std::make_shared<IdempotencyStore>(&config, &clock), [&](std::shared_ptr<HttpExchange> e) {
        e->Respond(
            {.status = 200, .content_type = {}, .headers = {}, .body = std::to_string(++runs)});
      });
  const auto ask = [&](const std::string& key) {
    auto exchange = std::make_shared<PlainExchange>(key);
    endpoint(exchange);
    return exchange->response().body;
  };
  EXPECT_EQ(ask("a"), "1");
  clock.Advance(absl::Seconds(59));
  EXPECT_EQ(ask("a"), "1");
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(ask("a"), "2");
  EXPECT_EQ(ask("b"), "3");
  EXPECT_EQ(ask("c"), "4");
  EXPECT_EQ(ask("d"), "5");  // three have room
  EXPECT_EQ(ask("b"), "3");
  EXPECT_EQ(ask("a"), "6");
  limits.idempotency_ttl = absl::ZeroDuration();
  config.Set(Talk::WithLimits(limits, {}));  // a reload turns it off
  EXPECT_EQ(ask("a"), "7");
}

TEST(Idempotency, DropsAnEntryWhoseEndpointSaysNothing) {
  const Live<ServerConfig> config{ServerConfig()};
  FakeClock clock;
  int runs = 0;
  const Endpoint endpoint =
      IdempotencyStore::Wrap(std::make_shared<IdempotencyStore>(&config, &clock),
                             [&](const std::shared_ptr<HttpExchange>&) { ++runs; });
  endpoint(std::make_shared<PlainExchange>("a"));
  endpoint(std::make_shared<PlainExchange>("a", "another body"));
  EXPECT_EQ(runs, 2);
}

}  // namespace
}  // namespace penstock
