#include "api/http/listen_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

absl::StatusOr<tcp::endpoint> ParseAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\" is no address: host:port is expected"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  if (host.empty()) host = "0.0.0.0";
  if (host == "localhost") host = "127.0.0.1";
  error_code error;
  const auto ip = asio::ip::make_address(host, error);
  if (!error) return tcp::endpoint(ip, static_cast<uint16_t>(port));
  asio::io_context context;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, std::to_string(port), error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the host \"", host, "\" is not known: ", error.message()));
  }
  return found.begin()->endpoint();
}

absl::Status CannotListen(const std::string& address, int descriptor) {
  const int error = errno;
  if (descriptor >= 0) close(descriptor);
  if (error == EADDRINUSE) {
    return absl::UnavailableError(
        absl::StrCat(address, " is in use: stop what listens there, or choose another port"));
  }
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", std::strerror(error)));
}

absl::StatusOr<BoundSocket> BindTcp(const std::string& address) {
  ASSIGN_OR_RETURN(const tcp::endpoint endpoint, ParseAddress(address));
  BoundSocket out{-1, endpoint.protocol().family(), 0};
  out.descriptor = socket(out.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (out.descriptor < 0 ||
      setsockopt(out.descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(out.descriptor, endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 ||
      getsockname(out.descriptor, reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return CannotListen(address, out.descriptor);
  out.port = ntohs(out.family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                          : reinterpret_cast<sockaddr_in&>(bound).sin_port);
  return out;
}

absl::StatusOr<BoundSocket> BindUnix(const std::string& address) {
  const std::string path = address.substr(std::strlen(kUnixPrefix));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof name.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", address, "\" is no address: a path of at most ", sizeof name.sun_path - 1, " bytes"));
  }
  std::memcpy(name.sun_path, path.data(), path.size());
  const auto* const where = reinterpret_cast<const sockaddr*>(&name);
  struct stat file {};
  if (lstat(path.c_str(), &file) == 0) {
    if (!S_ISSOCK(file.st_mode))
      return absl::UnavailableError(absl::StrCat(path, " is there and is no socket"));
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const bool left_behind =
        probe >= 0 && connect(probe, where, sizeof name) != 0 && errno == ECONNREFUSED;
    if (probe >= 0) close(probe);
    if (!left_behind) {
      return absl::UnavailableError(absl::StrCat(path, " is in use: another server listens there"));
    }
    unlink(path.c_str());
  }
  BoundSocket out{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), AF_UNIX, 0};
  // The file gets the mode of the socket, so that nobody else can connect at any moment. It listens
  // at once, so that a second server sees that this one lives.
  if (out.descriptor < 0 || fchmod(out.descriptor, 0600) != 0 ||
      bind(out.descriptor, where, sizeof name) != 0 || chmod(path.c_str(), 0600) != 0 ||
      listen(out.descriptor, SOMAXCONN) != 0)
    return CannotListen(path, out.descriptor);
  return out;
}

}  // namespace

absl::StatusOr<BoundSocket> BindSocket(const std::string& address) {
  return address.starts_with(kUnixPrefix) ? BindUnix(address) : BindTcp(address);
}

void RemoveSocketFile(const std::string& address) {
  if (address.starts_with(kUnixPrefix)) unlink(address.c_str() + std::strlen(kUnixPrefix));
}

IpAddress PeerAddress(const StreamSocket& socket) {
  error_code error;
  const auto peer = socket.remote_endpoint(error);
  IpAddress out;
  if (error) return out;
  const sockaddr* const address = peer.data();
  if (address->sa_family == AF_INET) {
    out = *IpAddress::Parse("0.0.0.0");
    std::memcpy(out.bytes.data() + 12, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
  } else if (address->sa_family == AF_INET6) {
    std::memcpy(out.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, 16);
  }
  return out;
}

bool IsUnixSocket(const StreamSocket& socket) {
  error_code error;
  const auto own = socket.local_endpoint(error);
  return !error && own.data()->sa_family == AF_UNIX;
}

}  // namespace penstock
