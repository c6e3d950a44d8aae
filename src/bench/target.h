// The server that is measured: its address, a connection to it, its process, the model that it lists.
// Owns nothing but the sockets it hands out. Must not know scenarios.
// Threads: any.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace penstock {

struct Target {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::string api_key;
  int64_t pid = 0;  // of the server, for its CPU time and memory; 0: not measured

  std::string name() const;  // host:port
};

/// host:port, http://host:port or http://host:port/v1. INVALID_ARGUMENT for what is none.
absl::StatusOr<Target> ParseTarget(const std::string& text);

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket();
  Socket(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

/// NOT_FOUND where the name is nobody's.
absl::StatusOr<SocketAddress> ResolveTarget(const Target& target);
/// UNAVAILABLE where nobody answers.
absl::StatusOr<std::unique_ptr<Socket>> ConnectTo(const SocketAddress& address, bool blocking);
/// The bytes of a request.
std::string HttpRequestBytes(const Target& target, std::string_view method, std::string_view path,
                             std::string_view body);
struct TargetReply {
  int status = 0;
  std::string body;
};
/// One request on a connection of its own; waits for 10 minutes at most. UNAVAILABLE: no answer.
absl::StatusOr<TargetReply> AskTarget(const Target& target, const SocketAddress& address,
                                    std::string_view method, std::string_view path,
                                    std::string_view body);
/// The first of /v1/models.
absl::StatusOr<std::string> FirstModelOf(const Target& target, const SocketAddress& address);

struct ProcessUse {
  double cpu_seconds = -1;  // -1: unknown
  int64_t rss_bytes = -1;
};
ProcessUse UseOfProcess(int64_t pid);

}  // namespace penstock
