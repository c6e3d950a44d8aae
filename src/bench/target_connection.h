// A connection to a target, in clear or by TLS.
// Owns the socket and the session. Must not know HTTP or scenarios.
// Threads: confined to its owner; an address is a value.
#pragma once

#include <netinet/in.h>
#include <openssl/types.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace penstock {

/// A file descriptor that is closed again.
class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket();
  Socket(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct TargetAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  std::string host;              // whose name its certificate has to bear
  std::shared_ptr<SSL_CTX> tls;  // null: in clear
};

/// NOT_FOUND where the name is nobody's.
absl::StatusOr<TargetAddress> ResolveAddress(const std::string& host, uint16_t port);
/// What TLS trusts: the system's authorities, or those of `ca_file` alone. INVALID_ARGUMENT where
/// it cannot be read. The process ignores SIGPIPE from then on: sessions write without flags.
absl::StatusOr<std::shared_ptr<SSL_CTX>> TrustFor(const std::string& ca_file);

class TargetConnection {
 public:
  /// UNAVAILABLE where nobody answers, RESOURCE_EXHAUSTED where this process or machine has no
  /// more descriptors, ports or memory. The first writing or reading shakes hands.
  static absl::StatusOr<std::unique_ptr<TargetConnection>> To(const TargetAddress& address);
  /// As read(2) and send(2), without waiting; EPROTO: TLS failed, `fault` says how.
  ssize_t Read(char* data, size_t size);
  ssize_t Write(const char* data, size_t size);

  /// Whether the peer has ended the connection: nothing that is written now is answered.
  bool Ended() const;
  /// Whether the peer cannot have read all that was written: its TCP has not acknowledged it. False
  /// where the system does not tell.
  bool Unread() const;
  /// Seconds, as TCP has measured it; 0: not yet.
  double RoundTrip() const;

  /// What to poll for after EAGAIN.
  short awaits() const { return awaits_; }  // NOLINT(runtime/int): as poll(2) has it
  int fd() const { return socket_.fd(); }
  const std::string& fault() const { return fault_; }

 private:
  explicit TargetConnection(int fd) : socket_(fd), session_(nullptr, nullptr) {}
  ssize_t Result(int result);

  short awaits_ = 0;      // NOLINT(runtime/int)
  uint64_t written_ = 0;  // bytes in clear; a session's are counted by its BIO
  Socket socket_;
  std::unique_ptr<SSL, void (*)(SSL*)> session_;  // null: in clear
  std::string fault_;
};

}  // namespace penstock
