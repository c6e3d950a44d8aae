// A server that behaves as told, and small loads on it.
// Owns its socket. Must not know what is tested.
// Threads: the server is served by one, beside that of the load.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "bench/load_run.h"
#include "gtest/gtest.h"

namespace penstock {

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
  /// Until its last byte, which is that of a JSON body or of a head. False: the client hung up.
  static bool ReadRequest(int client, char last = '}') {
    std::string got;
    char buffer[4096];
    while (got.find("\r\n\r\n") == got.npos || got.back() != last) {
      const ssize_t n = read(client, buffer, sizeof buffer);
      if (n <= 0) return false;
      got.append(buffer, static_cast<size_t>(n));
    }
    return true;
  }
  static void Say(int client, std::string_view bytes) {
    EXPECT_EQ(send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  static void Reset(int client) {
    const linger at_once{1, 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(client);
  }

 private:
  int fd_;
  int port_ = 0;
};

inline std::string Answer(std::string_view body, int status = 200) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

inline constexpr char kGood[] =
    R"({"choices":[{"text":"a"}],"usage":{"prompt_tokens":3,"completion_tokens":4}})";

inline Scenario Requests(int count, bool stream = false) {
  Scenario scenario;
  scenario.model = "m";
  scenario.requests = count;
  scenario.concurrency = 1;
  scenario.stream = stream;
  scenario.max_tokens = 4;
  scenario.timeout_seconds = 60;
  return scenario;
}

inline absl::StatusOr<LoadResult> RunAgainst(
    const Scenario& scenario, const std::function<void(const ScriptedServer&)>& serve) {
  const ScriptedServer server;
  std::thread serving([&] { serve(server); });
  Target target;
  target.port = static_cast<uint16_t>(server.port());
  auto result = RunLoad(scenario, target);
  serving.join();
  return result;
}

}  // namespace penstock
