#include "bench/target_connection.h"

#include <arpa/inet.h>
#include <linux/tcp.h>  // glibc's tcp_info is shorter
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

std::string TlsError() {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof(text));
  return text;
}

bool IsAddress(const std::string& host) {
  in6_addr ignored;
  return inet_pton(AF_INET, host.c_str(), &ignored) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

/// Null: no memory.
SSL* NewSession(const TargetAddress& address, int fd) {
  SSL* const session = SSL_new(address.tls.get());
  if (session == nullptr) return nullptr;
  SSL_set_fd(session, fd);
  SSL_set_connect_state(session);
  if (IsAddress(address.host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), address.host.c_str());
  } else {
    SSL_set_tlsext_host_name(session, address.host.c_str());
    SSL_set1_host(session, address.host.c_str());
  }
  return session;
}

absl::Status NoConnection(int error) {
  for (const int own : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL}) {
    if (error == own) return absl::ResourceExhaustedError(std::strerror(error));
  }
  return absl::UnavailableError("no server answers");
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<TargetAddress> ResolveAddress(const std::string& host, uint16_t port) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (error != 0 || found == nullptr) {
    return absl::NotFoundError(absl::StrCat(host, ": ", gai_strerror(error)));
  }
  // Servers listen on 127.0.0.1 more often than on ::1.
  const addrinfo* best = found;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family == AF_INET && best->ai_family != AF_INET) best = one;
  }
  TargetAddress address;
  address.host = host;
  address.size = best->ai_addrlen;
  std::memcpy(&address.storage, best->ai_addr, best->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

absl::StatusOr<std::shared_ptr<SSL_CTX>> TrustFor(const std::string& ca_file) {
  std::signal(SIGPIPE, SIG_IGN);
  std::shared_ptr<SSL_CTX> tls(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  if (tls == nullptr) return absl::ResourceExhaustedError(TlsError());
  SSL_CTX_set_verify(tls.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(tls.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  const int found = ca_file.empty()
                        ? SSL_CTX_set_default_verify_paths(tls.get())
                        : SSL_CTX_load_verify_locations(tls.get(), ca_file.c_str(), nullptr);
  if (found == 1) return tls;
  return absl::InvalidArgumentError(
      absl::StrCat(ca_file, ": expected certificates in PEM: ", TlsError()));
}

absl::StatusOr<std::unique_ptr<TargetConnection>> TargetConnection::To(
    const TargetAddress& address) {
  std::unique_ptr<TargetConnection> connection(new TargetConnection(
      ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  if (connection->fd() < 0) return NoConnection(errno);
  const int one = 1;
  setsockopt(connection->fd(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  if (connect(connection->fd(), reinterpret_cast<const sockaddr*>(&address.storage),
              address.size) != 0 &&
      errno != EINPROGRESS) {
    return NoConnection(errno);
  }
  if (address.tls != nullptr) {
    connection->session_ = {NewSession(address, connection->fd()), SSL_free};
    if (connection->session_ == nullptr) return absl::ResourceExhaustedError(TlsError());
  }
  return connection;
}

ssize_t TargetConnection::Read(char* data, size_t size) {
  awaits_ = POLLIN;
  if (session_ == nullptr) return read(fd(), data, size);
  ERR_clear_error();
  return Result(SSL_read(session_.get(), data, static_cast<int>(size)));
}

ssize_t TargetConnection::Write(const char* data, size_t size) {
  awaits_ = POLLOUT;
  if (session_ == nullptr) {
    const ssize_t n = send(fd(), data, size, MSG_NOSIGNAL);
    if (n > 0) written_ += static_cast<uint64_t>(n);
    return n;
  }
  ERR_clear_error();
  return Result(SSL_write(session_.get(), data, static_cast<int>(size)));
}

bool TargetConnection::Ended() const {
  pollfd one{fd(), POLLRDHUP, 0};
  return poll(&one, 1, 0) == 1;
}

namespace {

/// All 0 where the system does not tell.
tcp_info TcpInfoOf(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  return info;
}

}  // namespace

double TargetConnection::RoundTrip() const { return TcpInfoOf(fd()).tcpi_rtt * 1e-6; }

bool TargetConnection::Unread() const {
  const tcp_info info = TcpInfoOf(fd());
  const uint64_t written =
      session_ == nullptr ? written_ : BIO_number_written(SSL_get_wbio(session_.get()));
  // The SYN counts as a byte; 0: an old kernel.
  return info.tcpi_bytes_acked > 0 && info.tcpi_bytes_acked - 1 < written;
}

ssize_t TargetConnection::Result(int result) {
  if (result > 0) return result;
  if (!fault_.empty()) {  // a session that has failed says less the second time
    errno = EPROTO;
    return -1;
  }
  const int of_system = errno;
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      awaits_ = POLLIN;
      errno = EAGAIN;
      return -1;
    case SSL_ERROR_WANT_WRITE:
      awaits_ = POLLOUT;
      errno = EAGAIN;
      return -1;
    case SSL_ERROR_ZERO_RETURN:
      return 0;
    case SSL_ERROR_SYSCALL:
      errno = of_system;
      return of_system == 0 ? 0 : -1;
    default:
      const long verified = SSL_get_verify_result(session_.get());  // NOLINT(runtime/int)
      fault_ = verified == X509_V_OK ? TlsError() : X509_verify_cert_error_string(verified);
      errno = EPROTO;
      return -1;
  }
}

}  // namespace penstock
