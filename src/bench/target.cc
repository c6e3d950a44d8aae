#include "bench/target.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "bench/http_stream.h"
#include "config/load_config.h"

namespace penstock {

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

std::string Target::name() const {
  const bool v6 = host.find(':') != host.npos;
  return absl::StrCat(v6 ? "[" : "", host, v6 ? "]:" : ":", port);
}

absl::StatusOr<Target> ParseTarget(const std::string& text) {
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "https://")) {
    return absl::InvalidArgumentError(absl::StrCat(text, ": expected http, TLS is not spoken"));
  }
  absl::ConsumePrefix(&rest, "http://");
  absl::ConsumeSuffix(&rest, "/");
  absl::ConsumeSuffix(&rest, "/v1");
  ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(std::string(rest)));
  Target target;
  target.host = address.host;
  target.port = address.port;
  return target;
}

absl::StatusOr<SocketAddress> ResolveTarget(const Target& target) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(target.port);
  const int error = getaddrinfo(target.host.c_str(), port.c_str(), &wanted, &found);
  if (error != 0 || found == nullptr) {
    return absl::NotFoundError(absl::StrCat(target.host, ": ", gai_strerror(error)));
  }
  // Servers listen on 127.0.0.1 more often than on ::1.
  const addrinfo* best = found;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family == AF_INET && best->ai_family != AF_INET) best = one;
  }
  SocketAddress address;
  address.size = best->ai_addrlen;
  std::memcpy(&address.storage, best->ai_addr, best->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

absl::StatusOr<std::unique_ptr<Socket>> ConnectTo(const SocketAddress& address, bool blocking) {
  auto socket =
      std::make_unique<Socket>(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket->fd() < 0) return absl::ResourceExhaustedError("no more sockets");
  const int one = 1;
  setsockopt(socket->fd(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  if (!blocking) fcntl(socket->fd(), F_SETFL, O_NONBLOCK);
  if (connect(socket->fd(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) !=
          0 &&
      errno != EINPROGRESS) {
    return absl::UnavailableError("no server answers");
  }
  return socket;
}

std::string HttpRequestBytes(const Target& target, std::string_view method, std::string_view path,
                             std::string_view body) {
  std::string out =
      absl::StrCat(ToAbsl(method), " ", ToAbsl(path), " HTTP/1.1\r\nHost: ", target.name(), "\r\n");
  if (!target.api_key.empty())
    absl::StrAppend(&out, "Authorization: Bearer ", target.api_key, "\r\n");
  if (!body.empty()) absl::StrAppend(&out, "Content-Type: application/json\r\n");
  absl::StrAppend(&out, "Content-Length: ", body.size(), "\r\n\r\n", ToAbsl(body));
  return out;
}

absl::StatusOr<TargetReply> AskTarget(const Target& target, const SocketAddress& address,
                                      std::string_view method, std::string_view path,
                                      std::string_view body) {
  absl::StatusOr<std::unique_ptr<Socket>> socket = ConnectTo(address, /*blocking=*/true);
  if (!socket.ok()) {
    return absl::UnavailableError(
        absl::StrCat(ToAbsl(Message(socket.status())), " on ", target.name()));
  }
  const timeval patience{600, 0};
  setsockopt((*socket)->fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const std::string wire = HttpRequestBytes(target, method, path, body);
  for (size_t sent = 0; sent < wire.size();) {
    const ssize_t n = send((*socket)->fd(), wire.data() + sent, wire.size() - sent, MSG_NOSIGNAL);
    if (n < 0) return absl::UnavailableError(target.name() + ": the server hung up");
    sent += static_cast<size_t>(n);
  }
  HttpStream answer;
  char buffer[16384];
  while (!answer.done()) {
    const ssize_t n = read((*socket)->fd(), buffer, sizeof(buffer));
    if (n <= 0 || !answer.Feed({buffer, static_cast<size_t>(n)})) {
      return absl::UnavailableError(
          absl::StrCat(target.name(), ": ", ToAbsl(path), ": no HTTP answer"));
    }
  }
  return TargetReply{answer.status(), answer.body()};
}

absl::StatusOr<std::string> FirstModelOf(const Target& target, const SocketAddress& address) {
  ASSIGN_OR_RETURN(const TargetReply reply, AskTarget(target, address, "GET", "/v1/models", ""));
  if (reply.status == 503)
    return absl::UnavailableError(target.name() + ": /v1/models: HTTP 503, not ready yet");
  const nlohmann::json body =
      nlohmann::json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  const nlohmann::json::json_pointer id("/data/0/id");
  if (reply.status != 200 || !body.contains(id) || !body[id].is_string()) {
    return absl::UnavailableError(
        absl::StrCat(target.name(), ": /v1/models: HTTP ", reply.status, ", no model listed"));
  }
  return body[id].get<std::string>();
}

ProcessUse UseOfProcess(int64_t pid) {
  ProcessUse use;
  std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream text;
  text << stat.rdbuf();
  const std::string all = text.str();
  const size_t paren = all.rfind(')');
  if (paren == all.npos) return use;
  std::istringstream fields(all.substr(paren + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; fields >> field; ++i) {
    if (i == 14 || i == 15) ticks += std::stod(field);
    if (i == 24) use.rss_bytes = std::stoll(field) * sysconf(_SC_PAGE_SIZE);
  }
  use.cpu_seconds = ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  return use;
}

}  // namespace penstock
