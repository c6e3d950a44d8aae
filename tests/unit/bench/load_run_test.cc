#include "bench/load_run.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

/// A server that reads requests of one connection after the other, and answers as told.
class ScriptedServer {
 public:
  ScriptedServer() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 8), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~ScriptedServer() { close(fd_); }

  int port() const { return port_; }
  int Accept() const { return accept(fd_, nullptr, nullptr); }
  /// False: the client hung up.
  static bool ReadRequest(int client) {
    std::string got;
    char buffer[4096];
    while (got.find("\"prompt\"") == got.npos || got.back() != '}') {
      const ssize_t n = read(client, buffer, sizeof buffer);
      if (n <= 0) return false;
      got.append(buffer, static_cast<size_t>(n));
    }
    return true;
  }
  static void Answer(int client) {
    const std::string body = R"({"usage":{"prompt_tokens":3,"completion_tokens":4}})";
    const std::string all =
        "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    EXPECT_EQ(send(client, all.data(), all.size(), MSG_NOSIGNAL), static_cast<ssize_t>(all.size()));
  }

 private:
  int fd_;
  int port_ = 0;
};

Scenario ThreeInARow() {
  Scenario scenario;
  scenario.model = "m";
  scenario.requests = 3;
  scenario.concurrency = 1;
  scenario.stream = false;
  scenario.timeout_seconds = 20;
  return scenario;
}

TEST(RunLoad, AsksAgainWhereAKeptConnectionWasClosed) {
  const ScriptedServer server;
  std::thread serving([&] {
    int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    ScriptedServer::Answer(client);
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    close(client);  // without a word
    client = server.Accept();
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
      ScriptedServer::Answer(client);
    }
    close(client);
  });
  Target target;
  target.host = "127.0.0.1";
  target.port = server.port();
  const auto result = RunLoad(ThreeInARow(), target);
  serving.join();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->first_error, "");
  for (const RequestTiming& request : result->requests) {
    EXPECT_TRUE(request.ok);
    EXPECT_EQ(request.completion_tokens, 4);
  }
}

TEST(RunLoad, CountsARequestThatANewConnectionLost) {
  const ScriptedServer server;
  std::thread serving([&] {
    int client = server.Accept();
    EXPECT_TRUE(ScriptedServer::ReadRequest(client));
    const linger at_once{1, 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(client);  // a reset
    client = server.Accept();
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(ScriptedServer::ReadRequest(client));
      ScriptedServer::Answer(client);
    }
    close(client);
  });
  Target target;
  target.host = "127.0.0.1";
  target.port = server.port();
  const auto result = RunLoad(ThreeInARow(), target);
  serving.join();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->first_error, testing::HasSubstr("HTTP 0"));
  EXPECT_FALSE(result->requests[0].ok);
  EXPECT_TRUE(result->requests[1].ok);
  EXPECT_TRUE(result->requests[2].ok);
}

}  // namespace
}  // namespace penstock
