// The HTTP server itself over loopback sockets, with endpoints made for the test.
#include "api/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "fakes/http_client.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

// Routes: GET /hello, POST /echo, POST /hold (kept open for the test), POST /drop (never answered).
class HttpServerTest : public ::testing::Test {
 protected:
  void Start(LimitsSection limits = {}, int threads = 1) {
    router_.Add("GET", "/hello", RouteAccess::Open(),
                [](std::shared_ptr<HttpExchange> e) { Respond(*e, "hello"); });
    router_.Add("POST", "/echo", RouteAccess::Open(),
                [](std::shared_ptr<HttpExchange> e) { Respond(*e, e->request().body); });
    router_.Add("GET", "/item/{name}", RouteAccess::Open(),
                [](std::shared_ptr<HttpExchange> e) { Respond(*e, e->request().path_argument); });
    router_.Add("GET", "/secret", RouteAccess::Needs(Permission::kInfer),
                [](std::shared_ptr<HttpExchange> e) { Respond(*e, "secret"); });
    router_.Add("POST", "/drop", RouteAccess::Open(), [](std::shared_ptr<HttpExchange>) {});
    router_.Add("POST", "/hold", RouteAccess::Open(), [this](std::shared_ptr<HttpExchange> e) {
      e->Watch([this](CancelReason reason) { gone_.set_value(reason); },
               [this] { ++num_drained_; });
      held_.set_value(std::move(e));
    });
    HttpServerOptions options;
    options.address = "127.0.0.1:0";
    ServerConfig config;
    config.limits = limits;
    config_.Set(std::move(config));
    options.config = &config_;
    options.num_threads = threads;
    options.clock = &SystemClock::Get();
    options.on_answer = [this](int code) {
      if (code == 499) ++num_499_;
    };
    auto server = HttpServer::Bind(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    EXPECT_TRUE(server_->Serve(&router_).ok());
  }
  static void Respond(HttpExchange& exchange, std::string body) {
    HttpResponse response;
    response.content_type = "text/plain";
    response.body = std::move(body);
    exchange.Respond(std::move(response));
  }
  int port() const { return server_->port(); }
  std::shared_ptr<HttpExchange> Held() { return held_.get_future().get(); }
  CancelReason Gone() {
    auto future = gone_.get_future();
    EXPECT_EQ(future.wait_for(kPatience), std::future_status::ready);
    return future.get();
  }

  const AccessControl control_{[] {
    ServerConfig config;
    config.auth.api_keys = {"key"};
    return *MakeAccessRules(config);
  }()};
  Router router_{&control_};
  std::promise<std::shared_ptr<HttpExchange>> held_;
  std::promise<CancelReason> gone_;
  std::atomic<int> num_drained_{0}, num_499_{0};
  Live<ServerConfig> config_{ServerConfig()};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, KeepsAConnectionForManyRequests) {
  Start();
  HttpClient client(port());
  for (int i = 0; i < 50; ++i) {
    const ClientResponse response = client.Post("/echo", "body " + std::to_string(i));
    ASSERT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "body " + std::to_string(i));
  }
  EXPECT_EQ(server_->num_connections(), 1);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  Start();
  HttpClient client(port());
  std::string all;
  for (int i = 0; i < 300; ++i) all += HttpClient::PostText("/echo", std::to_string(i));
  client.Send(all);
  for (int i = 0; i < 300; ++i) EXPECT_EQ(client.Read().body, std::to_string(i));
}

TEST_F(HttpServerTest, ReadsRequestsThatArriveByteByByte) {
  Start();
  HttpClient client(port());
  for (char c : HttpClient::PostText("/echo", "slowly")) client.Send({&c, 1});
  EXPECT_EQ(client.Read().body, "slowly");
}

TEST_F(HttpServerTest, ReadsChunkedBodiesAndAnswersExpectContinue) {
  Start();
  HttpClient client(port());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  EXPECT_TRUE(client.FillUntil("100 Continue\r\n\r\n"));
  client.Send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(client.Read(true).status, 100);
  EXPECT_EQ(client.Read().body, "abcde");
}

TEST_F(HttpServerTest, TakesOrMakesTheRequestId) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Get("/hello", "X-Request-Id: abc-1\r\n").headers["x-request-id"], "abc-1");
  EXPECT_EQ(client.Get("/hello").headers["x-request-id"].size(), 32);
}

TEST_F(HttpServerTest, UnknownPathsAre404AndWrongMethods405) {
  Start();
  HttpClient client(port());
  const ClientResponse missing = client.Get("/nothing");
  EXPECT_EQ(missing.status, 404);
  EXPECT_THAT(missing.body,
              HasSubstr("{\"error\":{\"message\":\"there is no route GET /nothing\""));
  const ClientResponse wrong = client.Post("/hello", "");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "GET, HEAD, OPTIONS");
}

TEST_F(HttpServerTest, HeadHasTheLengthAndNoBodyAndOptionsTheMethods) {
  Start();
  HttpClient client(port());
  client.Send("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  const ClientResponse head = client.Read(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "5");
  client.Send("OPTIONS /echo HTTP/1.1\r\nHost: x\r\n\r\n");
  const ClientResponse options = client.Read();
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "POST, OPTIONS");
  EXPECT_EQ(client.Get("/hello").body, "hello");
}

TEST_F(HttpServerTest, PathArgumentsAreDecodedAndMayHoldSlashes) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Get("/item/org%2Fname/x?y=1").body, "org/name/x");
  EXPECT_EQ(client.Get("/item/").status, 404);
}

TEST_F(HttpServerTest, RoutesWithAKeyNeedOne) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Get("/secret").status, 401);
  EXPECT_EQ(client.Get("/secret", "Authorization: key\r\n").status, 200);
}

TEST_F(HttpServerTest, ABodyOverTheLimitIs413AlsoWhileTheClientStillSends) {
  LimitsSection limits;
  limits.max_body = {1000};
  Start(limits);
  HttpClient client(port());
  const ClientResponse response = client.Post("/echo", std::string(500'000, 'x'));
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(response.headers.at("connection"), "close");
  HttpClient chunked(port());
  chunked.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7D0\r\n" +
               std::string(2000, 'x') + "\r\n");
  EXPECT_EQ(chunked.Read().status, 413);
  HttpClient fits(port());
  EXPECT_EQ(fits.Post("/echo", std::string(1000, 'x')).status, 200);
}

TEST_F(HttpServerTest, WhatIsNoHttpIs400AndTooManyHeaders431) {
  Start();
  HttpClient garbage(port());
  garbage.Send("\x16\x03\x01 hello\r\n\r\n");
  EXPECT_EQ(garbage.Read().status, 400);
  HttpClient large(port());
  large.Send("GET /hello HTTP/1.1\r\nX: " + std::string(40000, 'x') + "\r\n\r\n");
  EXPECT_EQ(large.Read().status, 431);
}

TEST_F(HttpServerTest, Http10ClientsGetACloseAndNoChunks) {
  Start();
  HttpClient client(port());
  client.Send("POST /hold HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
  auto exchange = Held();
  exchange->StartStream("text/plain");
  exchange->Write("one ");
  exchange->Write("two");
  exchange->EndStream(false);
  const ClientResponse response = client.Read();
  EXPECT_EQ(response.body, "one two");
  EXPECT_EQ(response.headers.count("transfer-encoding"), 0);
}

TEST_F(HttpServerTest, AStreamLeavesPieceByPieceAndKeepsTheConnection) {
  Start();
  HttpClient client(port());
  client.Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  exchange->StartStream("text/event-stream");
  exchange->Write("first");
  EXPECT_TRUE(client.FillUntil("first"));
  exchange->Write("second");
  EXPECT_TRUE(client.FillUntil("second"));
  exchange->EndStream(false);
  EXPECT_EQ(client.Read().body, "firstsecond");
  EXPECT_EQ(client.Get("/hello").body, "hello");
}

TEST_F(HttpServerTest, AHangUpIsSeenWhileNothingIsWritten) {
  Start();
  auto client = std::make_unique<HttpClient>(port());
  client->Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  client->Close();
  EXPECT_EQ(Gone(), CancelReason::kDisconnect);
  EXPECT_EQ(num_499_, 1);
  exchange->StartStream("text/plain");  // does nothing any more
  exchange->Write("late");
  exchange->EndStream(false);
}

TEST_F(HttpServerTest, ADroppedExchangeIsA500) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Post("/drop", "").status, 500);
  EXPECT_EQ(client.Get("/hello").status, 200);
}

TEST_F(HttpServerTest, ASlowReaderIsHeldBackAndThenGoesOn) {
  LimitsSection limits;
  limits.stream_buffer = {100'000};
  Start(limits);
  HttpClient client(port(), 4096);
  client.Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  exchange->StartStream("text/plain");
  const std::string piece(10'000, 'x');
  size_t written = 0;
  while (!exchange->congested()) {
    exchange->Write(piece);
    written += piece.size();
    ASSERT_LT(written, 100'000'000);
  }
  while (client.buffer().size() < written - 40'000 && client.Fill()) {
  }
  num_drained_.wait(0);
  EXPECT_FALSE(exchange->congested());
  exchange->EndStream(false);
  EXPECT_EQ(client.Read().body.size(), written);
}

TEST_F(HttpServerTest, AReaderThatStaysSlowIsCutOff) {
  LimitsSection limits;
  limits.stream_buffer = {100'000};
  limits.write_stall = absl::Milliseconds(50);
  Start(limits);
  HttpClient client(port(), 4096);
  client.Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  exchange->StartStream("text/plain");
  exchange->Write(std::string(30'000'000, 'x'));  // more than the kernel takes
  EXPECT_TRUE(exchange->congested());
  EXPECT_EQ(Gone(), CancelReason::kSlowReader);
}

TEST_F(HttpServerTest, SlowHeadersAre408AndIdleConnectionsEnd) {
  Start();
  HttpClient slow(port());
  slow.Send("GET /hello HTTP/1.1\r\nHo");
  HttpClient idle(port());
  EXPECT_EQ(idle.Get("/hello").status, 200);  // by now the one thread has seen both
  ServerConfig brief;
  brief.limits.header_timeout = absl::Milliseconds(60);
  brief.limits.idle_timeout = absl::Milliseconds(60);
  config_.Set(std::move(brief));
  EXPECT_EQ(slow.Read().status, 408);
  EXPECT_TRUE(idle.AtEnd());
}

TEST_F(HttpServerTest, ConnectionsOverTheLimitGet503) {
  LimitsSection limits;
  limits.max_connections = 1;
  Start(limits);
  HttpClient first(port());
  EXPECT_EQ(first.Get("/hello").status, 200);
  HttpClient second(port());
  const ClientResponse response = second.Read();
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.count("retry-after"), 1);
}

TEST_F(HttpServerTest, DrainLetsAnAnswerEndAndClosesTheRest) {
  Start({}, 2);
  HttpClient idle(port()), busy(port());
  EXPECT_EQ(idle.Get("/hello").status, 200);
  busy.Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  std::thread drain([&] { server_->Drain(absl::Seconds(30)); });
  EXPECT_TRUE(idle.AtEnd());
  Respond(*exchange, "done");
  const ClientResponse response = busy.Read();
  EXPECT_EQ(response.body, "done");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(busy.AtEnd());
  idle.Close();
  busy.Close();
  drain.join();
  EXPECT_EQ(server_->num_connections(), 0);
}

TEST_F(HttpServerTest, DrainCutsOffWhatIsOverItsGrace) {
  Start();
  HttpClient client(port());
  client.Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  server_->Drain(absl::ZeroDuration());
  EXPECT_EQ(Gone(), CancelReason::kShutdown);
}

TEST(HttpServerListen, SaysThatAPortIsTakenOrAnAddressIsNone) {
  const Live<ServerConfig> config{ServerConfig()};
  HttpServerOptions options;
  options.address = "127.0.0.1:0";
  options.config = &config;
  options.clock = &SystemClock::Get();
  const auto first = HttpServer::Bind(options);
  ASSERT_TRUE(first.ok());
  EXPECT_GT((*first)->port(), 0);
  const AccessControl control(*MakeAccessRules({}));
  const Router router(&control);
  ASSERT_TRUE((*first)->Serve(&router).ok());
  options.address = "127.0.0.1:" + std::to_string((*first)->port());
  const auto second = HttpServer::Bind(options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("is in use"));
  for (const char* bad : {"8000", "127.0.0.1:99999", "127.0.0.1:x", ""}) {
    options.address = bad;
    EXPECT_EQ(HttpServer::Bind(options).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace penstock
