// What every route does: CORS, traces, compressed answers, HEAD and OPTIONS, the start page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <nlohmann/json.hpp>

#include "fakes/http_talk.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kPath = "/v1/completions";
constexpr const char* kBody = R"({"prompt":"abc","max_tokens":3})";
constexpr const char* kApp = "Origin: https://app.example\r\n";

ClientResponse Options(HttpClient& client, std::string_view path, std::string_view headers) {
  client.Send(absl::StrCat("OPTIONS ", std::string(path), " HTTP/1.1\r\nHost: x\r\n",
                           std::string(headers), "\r\n"));
  return client.Read();
}

TEST(Cors, IsOffByDefault) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse answer = client.Post(kPath, kBody, kApp);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.count("access-control-allow-origin"), 0);
  const ClientResponse preflight =
      Options(client, kPath, std::string(kApp) + "Access-Control-Request-Method: POST\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("allow"), "POST, OPTIONS");
  EXPECT_EQ(preflight.headers.count("access-control-allow-methods"), 0);
}

TEST(Cors, LetsListedPagesReadEveryKindOfAnswer) {
  HttpTalk talk(FakeEngine::Repeat, {}, {"key"}, true, {"https://app.example"});
  HttpClient client(talk.port());
  const ClientResponse preflight =
      Options(client, kPath,
              std::string(kApp) +
                  "Access-Control-Request-Method: POST\r\n"
                  "Access-Control-Request-Headers: authorization, content-type\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(preflight.headers.at("access-control-allow-methods"), "POST");
  EXPECT_EQ(preflight.headers.at("access-control-allow-headers"), "authorization, content-type");
  const std::string authorized = std::string(kApp) + "Authorization: Bearer key\r\n";
  for (const auto& [body, headers, status] :
       {std::tuple{kBody, authorized, 200},
        {R"({"prompt":"abc","max_tokens":3,"stream":true})", authorized, 200},
        {"{", authorized, 400},
        {kBody, std::string(kApp), 401}}) {
    const ClientResponse answer = client.Post(kPath, body, headers);
    EXPECT_EQ(answer.status, status);
    EXPECT_EQ(answer.headers.at("access-control-allow-origin"), "https://app.example") << status;
    EXPECT_THAT(answer.headers.at("access-control-expose-headers"), HasSubstr("X-Request-Id"));
    EXPECT_EQ(answer.headers.count("access-control-allow-credentials"), 0);
  }
  for (const char* other : {"Origin: https://evil.example\r\n", "Origin: null\r\n", ""}) {
    const ClientResponse answer =
        client.Post(kPath, kBody, std::string(other) + "Authorization: Bearer key\r\n");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.count("access-control-allow-origin"), 0) << other;
    EXPECT_EQ(answer.headers.at("vary"), "Origin") << "caches must tell pages apart";
  }
}

TEST(Cors, RepeatsOnlyNamesOfHeaders) {
  HttpTalk talk(FakeEngine::Repeat, {}, {}, true, {"*"});
  HttpClient client(talk.port());
  const std::string ask = std::string(kApp) + "Access-Control-Request-Method: POST\r\n";
  const ClientResponse good =
      Options(client, kPath, ask + "Access-Control-Request-Headers: x-a,X_b\r\n");
  EXPECT_EQ(good.headers.at("access-control-allow-origin"), "*");
  EXPECT_EQ(good.headers.at("access-control-allow-headers"), "x-a,X_b");
  for (const std::string& bad :
       {std::string("a;b"), std::string("\xc3\xa4"), std::string(1025, 'a')}) {
    const ClientResponse answer =
        Options(client, kPath, ask + "Access-Control-Request-Headers: " + bad + "\r\n");
    EXPECT_EQ(answer.headers.count("access-control-allow-headers"), 0);
  }
}

TEST(Options, OfAnyRouteOrTheWholeServer) {
  HttpTalk talk;
  HttpClient client(talk.port());
  EXPECT_EQ(Options(client, "/v1/models", "").headers.at("allow"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(Options(client, "*", "").status, 204);
  EXPECT_EQ(Options(client, "/nothing", "").status, 404);
  const ClientResponse wrong = client.Get(kPath);
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
}

TEST(Trace, IsContinuedEchoedAndLogged) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const ClientResponse answer =
      client.Post(kPath, kBody, "traceparent: 00-" + trace + "-00f067aa0ba902b7-01\r\n");
  const std::string echoed = answer.headers.at("traceparent");
  EXPECT_THAT(echoed, StartsWith("00-" + trace + "-"));
  EXPECT_EQ(echoed.substr(52), "-01");
  EXPECT_NE(echoed.substr(36, 16), "00f067aa0ba902b7");
  const ClientResponse fresh = client.Post(kPath, "{", "traceparent: nonsense\r\n");
  EXPECT_EQ(fresh.status, 400);
  EXPECT_EQ(fresh.headers.at("traceparent").size(), 55);
  const auto records = talk.log.Wait(2);
  ASSERT_EQ(records.size(), 2);
  EXPECT_EQ(records[0].trace_id, trace);
  EXPECT_EQ(records[0].span_id, echoed.substr(36, 16));
  EXPECT_EQ(records[1].trace_id, fresh.headers.at("traceparent").substr(3, 32));
}

TEST(Compression, OfLongAnswersWhereTheClientTakesIt) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const std::string body = R"({"prompt":"abc","max_tokens":4000,"add_special_tokens":false})";
  const ClientResponse plain = client.Post(kPath, body);
  EXPECT_EQ(plain.headers.count("content-encoding"), 0);
  const ClientResponse small = client.Post(kPath, kBody, "Accept-Encoding: zstd\r\n");
  EXPECT_EQ(small.headers.count("content-encoding"), 0);
  const ClientResponse packed = client.Post(kPath, body, "Accept-Encoding: gzip, zstd\r\n");
  ASSERT_EQ(packed.headers.at("content-encoding"), "zstd");
  EXPECT_LT(packed.body.size(), plain.body.size() / 2);
  std::string text(1 << 20, 0);
  const size_t size =
      ZSTD_decompress(text.data(), text.size(), packed.body.data(), packed.body.size());
  ASSERT_FALSE(ZSTD_isError(size));
  text.resize(size);
  EXPECT_EQ(nlohmann::json::parse(text)["choices"], nlohmann::json::parse(plain.body)["choices"]);
}

}  // namespace
}  // namespace penstock
