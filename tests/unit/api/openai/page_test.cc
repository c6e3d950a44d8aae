// The page at / and what it shows of failures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "api/openai/page_files.h"
#include "fakes/http_talk.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(StartPage, IsOpenStrictAndSelfContained) {
  HttpTalk talk(FakeEngine::Repeat, {}, {"key"});
  HttpClient client(talk.port());
  const ClientResponse page = client.Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.headers.at("content-type"), StartsWith("text/html"));
  const std::string& policy = page.headers.at("content-security-policy");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_THAT(page.body, Not(HasSubstr("://")));
  client.Send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  const ClientResponse head = client.Read(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), page.headers.at("content-length"));
  EXPECT_EQ(client.Get("/page/none.js").status, 404);
  EXPECT_EQ(client.Get("/v1/models").status, 401);
}

TEST(StartPage, FilesAreSentOnce) {
  HttpTalk talk;
  HttpClient client(talk.port());
  ASSERT_GT(PageFiles().size(), 5);
  for (const PageFile& file : PageFiles()) {
    const std::string path = absl::StrCat("/page/", std::string(file.name));
    const ClientResponse whole = client.Get(path);
    ASSERT_EQ(whole.status, 200) << path;
    EXPECT_EQ(whole.body, file.content);
    client.Send(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"other\", ",
                             whole.headers.at("etag"), "\r\n\r\n"));
    const ClientResponse again = client.Read(true);
    EXPECT_EQ(again.status, 304);
    EXPECT_EQ(again.headers.count("content-length"), 0);
    EXPECT_EQ(again.headers.at("etag"), whole.headers.at("etag"));
    client.Send(
        absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"other\"\r\n\r\n"));
    EXPECT_EQ(client.Read().status, 200);
  }
}

TEST(Errors, EachTenantSeesItsOwn) {
  RecentErrors errors;
  HttpTalk talk(FakeEngine::Repeat, {}, {}, true, {}, AddOpenAiRoutes, &errors);
  RequestRecord record;
  record.code = 400;
  record.error = "a \"quoted\" message";
  record.model = "demo";
  record.tenant = kAnonymousTenant;
  errors.Record(record);
  record.tenant = "other";
  errors.Record(record);
  HttpClient client(talk.port());
  const auto list = nlohmann::json::parse(client.Get("/errors").body)["data"];
  ASSERT_EQ(list.size(), 1);
  EXPECT_EQ(list[0]["message"], record.error);
  EXPECT_EQ(list[0]["code"], 400);
  EXPECT_GT(list[0]["time"], 1.7e12);
}

}  // namespace
}  // namespace penstock
