// What a server over loopback sockets counts of its requests, by route.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <random>
#include <sstream>

#include "api/http/http_server.h"
#include "api/http/shared_exchange.h"
#include "fakes/http_client.h"
#include "metrics/catalogue.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// Routes: GET and DELETE /item/{name}, GET /secret, GET /health, POST /hold (kept for the test),
// POST /together (one answer for all), POST /drop (never answered).
class RouteCountsTest : public ::testing::Test {
 protected:
  void Start(LimitsSection limits = {}) {
    const auto hello = [](std::shared_ptr<HttpExchange> e) { Respond(*e); };
    router_.Add("GET", "/item/{name}", RouteAccess::Open(), hello);
    router_.Add("DELETE", "/item/{name}", RouteAccess::Open(), hello);
    router_.Add("GET", "/secret", RouteAccess::Needs(Permission::kInfer), hello);
    router_.Add("GET", "/health", RouteAccess::Open(), hello);
    router_.Add("POST", "/drop", RouteAccess::Open(), [](std::shared_ptr<HttpExchange>) {});
    router_.Add("POST", "/hold", RouteAccess::Open(), [this](std::shared_ptr<HttpExchange> e) {
      e->Watch([this](CancelReason) { gone_.set_value(); }, [] {});
      held_.set_value(std::move(e));
    });
    router_.Add("POST", "/together", RouteAccess::Open(), [this](std::shared_ptr<HttpExchange> e) {
      if (shared_ != nullptr) {
        EXPECT_TRUE(shared_->Join(e));
        return joined_.set_value();
      }
      shared_ = std::make_shared<SharedExchange>(std::move(e), &bytes_,
                                                 [](const SharedExchange*, const HttpResponse*) {});
      shared_->Begin();
    });
    HttpServerOptions options;
    options.address = "127.0.0.1:0";
    ServerConfig config;
    config.limits = limits;
    config.server.cors_origins = {"https://page.test"};
    config_.Set(std::move(config));
    options.config = &config_;
    options.cross_origin = true;
    options.clock = &SystemClock::Get();
    options.on_answer = [this](int) { ++num_answers_; };
    auto server = HttpServer::Bind(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    EXPECT_TRUE(server_->Serve(&router_).ok());
  }
  static void Respond(HttpExchange& exchange) {
    HttpResponse response;
    response.body = "hello";
    exchange.Respond(std::move(response));
  }
  int port() const { return server_->port(); }
  std::shared_ptr<HttpExchange> Held() { return held_.get_future().get(); }
  void AwaitGone() { ASSERT_EQ(gone_.get_future().wait_for(kPatience), std::future_status::ready); }

  std::map<std::string, double> Samples(std::string_view name) {
    std::map<std::string, double> samples;
    std::istringstream text(catalogue_.Text());
    for (std::string line; std::getline(text, line);) {
      const size_t space = line.rfind(' ');
      if (line.starts_with(name)) samples[line.substr(0, space)] = std::stod(line.substr(space));
    }
    return samples;
  }
  /// "method handler status" of what was counted, and how often; observed as often in both
  /// histograms, but for `unread` that never became requests.
  std::map<std::string, int> Counts(int unread = 0) {
    std::map<std::string, int> counts;
    double all = 0;
    for (const auto& [series, count] : Samples("http_requests_total{")) {
      all += count;
      if (count > 0)
        counts[Label(series, "method") + " " + Label(series, "handler") + " " +
               Label(series, "status")] = static_cast<int>(count);
    }
    double observed = 0;
    for (const auto& [series, count] : Samples("http_request_duration_seconds_count{"))
      observed += count;
    EXPECT_EQ(observed, all - unread);
    EXPECT_EQ(Samples("http_request_duration_highr_seconds_count").begin()->second, observed);
    return counts;
  }
  static std::string Label(const std::string& series, const std::string& name) {
    const size_t begin = series.find(name + "=\"") + name.size() + 2;
    return series.substr(begin, series.find('"', begin) - begin);
  }

  const AccessControl control_{[] {
    ServerConfig config;
    config.auth.api_keys = {"key"};
    return *MakeAccessRules(config);
  }()};
  Catalogue catalogue_{"1"};
  Router router_{&control_, &catalogue_};
  std::promise<std::shared_ptr<HttpExchange>> held_;
  std::promise<void> gone_, joined_;
  SharedBytes bytes_;
  std::shared_ptr<SharedExchange> shared_;
  std::atomic<int> num_answers_{0};
  Live<ServerConfig> config_{ServerConfig()};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(RouteCountsTest, RequestsAreCountedByTheFormOfTheirPath) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Get("/item/a").status, 200);
  EXPECT_EQ(client.Get("/item/b/c?d=e").status, 200);
  client.Send("DELETE /item/a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read().status, 200);
  client.Send("HEAD /item/a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read(true).status, 200);
  EXPECT_EQ(client.Get("/secret").status, 401);
  EXPECT_EQ(client.Get("/secret", "Authorization: key\r\n").status, 200);
  EXPECT_EQ(client.Post("/drop", "").status, 500);
  EXPECT_THAT(Counts(), ElementsAre(Pair("DELETE /item/{name} 2xx", 1),
                                    Pair("GET /item/{name} 2xx", 3), Pair("GET /secret 2xx", 1),
                                    Pair("GET /secret 4xx", 1), Pair("POST /drop 5xx", 1)));
  EXPECT_EQ(num_answers_, 7);
}

TEST_F(RouteCountsTest, WhatNoRouteAnswersHasNoHandler) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Get("/nothing").status, 404);
  client.Send("HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read(true).status, 404);
  EXPECT_EQ(client.Post("/item/a", "").status, 405);
  client.Send("BREW /item/a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read().status, 405);
  client.Send(
      "OPTIONS /item/a HTTP/1.1\r\nHost: x\r\nOrigin: https://page.test\r\n"
      "Access-Control-Request-Method: GET\r\n\r\n");
  EXPECT_EQ(client.Read().status, 204);
  EXPECT_THAT(Counts(), ElementsAre(Pair("GET none 4xx", 2), Pair("POST none 4xx", 1),
                                    Pair("none none 2xx", 1), Pair("none none 4xx", 1)));
  EXPECT_EQ(num_answers_, 5);
}

TEST_F(RouteCountsTest, WhatNeverBecameARequestIsCountedToo) {
  LimitsSection limits;
  limits.max_connections = 1;
  limits.max_body = {10};
  Start(limits);
  {
    HttpClient garbage(port());
    garbage.Send("\x16\x03\x01 hello\r\n\r\n");
    EXPECT_EQ(garbage.Read().status, 400);
    HttpClient second(port());
    EXPECT_EQ(second.Read().status, 503);
    EXPECT_TRUE(garbage.AtEnd());
  }
  while (server_->num_connections() > 0) std::this_thread::yield();
  HttpClient large(port());
  EXPECT_EQ(large.Post("/hold", std::string(11, 'x')).status, 413);
  EXPECT_THAT(Counts(3), ElementsAre(Pair("none none 4xx", 2), Pair("none none 5xx", 1)));
  EXPECT_EQ(num_answers_, 3);
}

TEST_F(RouteCountsTest, PipelinedRequestsCountOnceEach) {
  Start();
  HttpClient client(port());
  std::string all;
  for (int i = 0; i < 100; ++i) all += "GET /item/a HTTP/1.1\r\nHost: x\r\n\r\n";
  client.Send(all);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(client.Read().status, 200);
  EXPECT_THAT(Counts(), ElementsAre(Pair("GET /item/{name} 2xx", 100)));
}

TEST_F(RouteCountsTest, AStreamIsCountedWhenItEnds) {
  Start();
  HttpClient client(port());
  client.Send(HttpClient::PostText("/hold", ""));
  const auto exchange = Held();
  exchange->StartStream("text/plain");
  exchange->Write("first");
  EXPECT_TRUE(client.FillUntil("first"));
  EXPECT_EQ(num_answers_, 1);
  EXPECT_THAT(Counts(), IsEmpty());
  exchange->EndStream(false);
  EXPECT_EQ(client.Read().body, "first");
  EXPECT_THAT(Counts(), ElementsAre(Pair("POST /hold 2xx", 1)));
}

TEST_F(RouteCountsTest, ItsTimeIsFromItsFirstByteToTheEndOfItsStream) {
  Start();
  HttpClient client(port());
  const auto before = std::chrono::steady_clock::now();
  client.Send(HttpClient::PostText("/hold", ""));
  const auto exchange = Held();
  const auto held = std::chrono::steady_clock::now();
  exchange->StartStream("text/plain");
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const auto ends = std::chrono::steady_clock::now();
  exchange->EndStream(false);
  EXPECT_EQ(client.Read().status, 200);
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - before;
  const std::chrono::duration<double> streamed = ends - held;
  for (const char* sum : {"http_request_duration_seconds_sum{handler=\"/hold\"",
                          "http_request_duration_highr_seconds_sum"}) {
    const double seconds = Samples(sum).begin()->second;
    EXPECT_GE(seconds, streamed.count());
    EXPECT_LE(seconds, whole.count());
  }
}

TEST_F(RouteCountsTest, AClientThatLeavesBeforeItsAnswerIsAnErrorOfItsOwn) {
  Start();
  auto client = std::make_unique<HttpClient>(port());
  client->Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  client->Close();
  AwaitGone();
  Respond(*exchange);  // does nothing any more
  exchange.reset();
  EXPECT_THAT(Counts(), ElementsAre(Pair("POST /hold 4xx", 1)));
  EXPECT_EQ(num_answers_, 1);
}

TEST_F(RouteCountsTest, AClientThatLeavesWithinAStreamWasAnswered) {
  Start();
  auto client = std::make_unique<HttpClient>(port());
  client->Send(HttpClient::PostText("/hold", ""));
  auto exchange = Held();
  exchange->StartStream("text/plain");
  exchange->Write("first");
  EXPECT_TRUE(client->FillUntil("first"));
  client->Close();
  AwaitGone();
  exchange->EndStream(false);
  exchange.reset();
  EXPECT_THAT(Counts(), ElementsAre(Pair("POST /hold 2xx", 1)));
  EXPECT_EQ(num_answers_, 1);
}

TEST_F(RouteCountsTest, EachClientOfASharedAnswerIsCounted) {
  Start();
  HttpClient first(port()), second(port());
  first.Send(HttpClient::PostText("/together", ""));
  second.Send(HttpClient::PostText("/together", ""));
  ASSERT_EQ(joined_.get_future().wait_for(kPatience), std::future_status::ready);
  Respond(*shared_);
  EXPECT_EQ(first.Read().body, "hello");
  EXPECT_EQ(second.Read().body, "hello");
  EXPECT_THAT(Counts(), ElementsAre(Pair("POST /together 2xx", 2)));
}

TEST_F(RouteCountsTest, ProbesAreNotCounted) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_THAT(Counts(), IsEmpty());
  EXPECT_EQ(num_answers_, 1);
}

TEST_F(RouteCountsTest, WhatClientsMakeUpBecomesNoSeries) {
  Start();
  const auto names = [this] {
    std::vector<std::string> out;
    for (const auto& [series, count] : Samples("http_request")) out.push_back(series);
    return out;
  };
  const std::vector<std::string> before = names();
  HttpClient client(port());
  std::mt19937 source(7);
  for (int i = 0; i < 1000; ++i) {
    const std::string name = std::to_string(source());
    const std::string method = i % 3 == 0 ? "GET" : i % 3 == 1 ? "POST" : "X" + name;
    client.Send(method + (i % 2 == 0 ? " /item/" : " /") + name +
                " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    EXPECT_GE(client.Read().status, 200);
  }
  EXPECT_EQ(names(), before);
  int all = 0;
  for (const auto& [what, count] : Counts()) all += count;
  EXPECT_EQ(all, 1000);
}

}  // namespace
}  // namespace penstock
