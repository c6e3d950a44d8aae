#include "bench/http_stream.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(HttpStream, ReadsAChunkedAnswerByteByByte) {
  const std::string wire =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=1\r\n, "
      "world\r\n0\r\n\r\n";
  HttpStream stream;
  for (size_t i = 0; i < wire.size(); ++i) {
    ASSERT_FALSE(stream.done());
    ASSERT_TRUE(stream.Feed(wire.substr(i, 1)));
  }
  EXPECT_TRUE(stream.done());
  EXPECT_EQ(stream.body(), "hello, world");
  EXPECT_TRUE(stream.keep_alive());
}

TEST(HttpStream, ReadsAnAnswerWithALength) {
  HttpStream stream;
  ASSERT_TRUE(stream.Feed(
      "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"));
  EXPECT_TRUE(stream.done());
  EXPECT_EQ(stream.status(), 429);
  EXPECT_FALSE(stream.keep_alive());
}

TEST(HttpStream, ReadsAnAnswerThatEndsWhereTheConnectionDoes) {
  HttpStream stream;
  for (const char byte : std::string("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n{\"a\":\r\n1}")) {
    ASSERT_TRUE(stream.Feed({&byte, 1}));
    ASSERT_FALSE(stream.done());
  }
  EXPECT_TRUE(stream.FeedEnd());
  EXPECT_TRUE(stream.done());
  EXPECT_EQ(stream.body(), "{\"a\":\r\n1}");
  EXPECT_FALSE(stream.keep_alive());
}

TEST(HttpStream, IsCutWhereTheConnectionEndsBeforeTheLength) {
  for (const char* wire :
       {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "HTTP/1.1 200 OK\r\nServer: x\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"}) {
    HttpStream stream;
    ASSERT_TRUE(stream.Feed(wire));
    EXPECT_FALSE(stream.FeedEnd()) << wire;
    EXPECT_FALSE(stream.done()) << wire;
  }
}

TEST(HttpStream, AnswersThatHaveNoBodyAreDoneWithTheirHead) {
  for (const char* wire :
       {"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}) {
    HttpStream stream;
    ASSERT_TRUE(stream.Feed(wire));
    EXPECT_TRUE(stream.done()) << wire;
    EXPECT_TRUE(stream.keep_alive()) << wire;
  }
}

TEST(HttpStream, PassesOverInterimAnswers) {
  HttpStream stream;
  ASSERT_TRUE(stream.Feed("HTTP/1.1 100 Continue\r\n\r\n"));
  EXPECT_FALSE(stream.head_done());
  ASSERT_TRUE(stream.Feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
  EXPECT_TRUE(stream.done());
  EXPECT_EQ(stream.status(), 200);
  EXPECT_EQ(stream.body(), "{}");
}

TEST(HttpStream, RefusesWhatIsNoHttp) {
  HttpStream stream;
  EXPECT_FALSE(stream.Feed("SSH-2.0-OpenSSH\r\n\r\n"));
  stream.Reset();
  EXPECT_FALSE(stream.Feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"));
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& wire : {
           std::string("HTTP/1.1 -20 OK\r\n\r\n"),
           std::string("HTTP/1.1 +20 OK\r\n\r\n"),
           std::string("HTTP/1.1 099 OK\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"),
           std::string("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n{}"),
           std::string("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}"),
           chunked + "-2\r\n",
           chunked + "2g\r\n{}\r\n",
           chunked + ";x\r\n",
           chunked + "11111111111111111\r\n",
       }) {
    stream.Reset();
    EXPECT_FALSE(stream.Feed(wire)) << wire;
  }
}

TEST(HttpStream, AHeadThatIsTooLongIsNoneHoweverItIsCut) {
  for (const size_t size : {65536, 65537}) {
    const std::string begin = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ";
    const std::string wire = begin + std::string(size - begin.size() - 4, 'x') + "\r\n\r\n";
    HttpStream whole;
    EXPECT_EQ(whole.Feed(wire), size == 65536);
    HttpStream pieces;
    bool ok = true;
    for (size_t i = 0; ok && i < wire.size(); i += 1000) ok = pieces.Feed(wire.substr(i, 1000));
    EXPECT_EQ(ok, size == 65536);
  }
}

}  // namespace
}  // namespace penstock
