#include "bench/target.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "bench/http_stream.h"

namespace penstock {

namespace {

using TargetClock = std::chrono::steady_clock;

/// Until the connection goes on, or `end`.
void AwaitUntil(const TargetConnection& connection, TargetClock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - TargetClock::now()).count();
  pollfd of{connection.fd(), connection.awaits(), 0};
  poll(&of, 1, static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX)));
}

}  // namespace

std::string Target::authority() const {
  const bool v6 = host.find(':') != host.npos;
  return absl::StrCat(v6 ? "[" : "", host, v6 ? "]:" : ":", port);
}

std::string Target::name() const {
  return absl::StrCat(tls ? "https://" : "", authority(), prefix);
}

absl::StatusOr<Target> ParseTarget(const std::string& text) {
  Target target;
  absl::string_view rest = text;
  target.tls = absl::ConsumePrefix(&rest, "https://");
  const bool url = target.tls || absl::ConsumePrefix(&rest, "http://");
  const size_t slash = std::min(rest.find('/'), rest.size());
  absl::string_view path = rest.substr(slash);
  absl::ConsumeSuffix(&path, "/");
  absl::ConsumeSuffix(&path, "/v1");
  target.prefix = std::string(path);
  absl::string_view host = rest.substr(0, slash), port = target.tls ? "443" : "80";
  const size_t colon = host.rfind(':');
  const bool with_port = colon != host.npos && host.find(']', colon) == host.npos;
  if (with_port) {
    port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (absl::ConsumePrefix(&host, "[") && !absl::ConsumeSuffix(&host, "]")) host = "";
  int32_t number = 0;
  if (host.empty() || host.find_first_of(" @?#") != host.npos || !(with_port || url) ||
      !absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected host:port or a URL of http or https, such as 127.0.0.1:8000 or "
                     "https://llm.example/v1, not \"",
                     text, "\""));
  }
  target.host = std::string(host);
  target.port = static_cast<uint16_t>(number);
  return target;
}

absl::StatusOr<TargetAddress> ResolveTarget(const Target& target) {
  ASSIGN_OR_RETURN(TargetAddress address, ResolveAddress(target.host, target.port));
  if (target.tls) {
    ASSIGN_OR_RETURN(address.tls, TrustFor(target.ca_file));
  }
  return address;
}

std::string HttpRequestBytes(const Target& target, std::string_view method, std::string_view path,
                             std::string_view body) {
  std::string out = absl::StrCat(ToAbsl(method), " ", target.prefix, ToAbsl(path),
                                 " HTTP/1.1\r\nHost: ", target.authority(), "\r\n");
  if (!target.api_key.empty())
    absl::StrAppend(&out, "Authorization: Bearer ", target.api_key, "\r\n");
  if (!body.empty()) absl::StrAppend(&out, "Content-Type: application/json\r\n");
  absl::StrAppend(&out, "Content-Length: ", body.size(), "\r\n\r\n", ToAbsl(body));
  return out;
}

absl::StatusOr<TargetReply> AskTarget(const Target& target, const TargetAddress& address,
                                      std::string_view method, std::string_view path,
                                      std::string_view body, absl::Duration patience) {
  const auto fail = [&](const auto&... why) {
    return absl::UnavailableError(absl::StrCat(target.name(), ": ", ToAbsl(path), ": ", why...));
  };
  const auto nobody = [&](std::string_view why) {
    return absl::UnavailableError(absl::StrCat(ToAbsl(why), " on ", target.name()));
  };
  absl::StatusOr<std::unique_ptr<TargetConnection>> opened = TargetConnection::To(address);
  if (!opened.ok()) return nobody(Message(opened.status()));
  TargetConnection& connection = **opened;
  const auto end = TargetClock::now() + absl::ToChronoNanoseconds(patience);
  const std::string wire = HttpRequestBytes(target, method, path, body);
  HttpStream answer;
  char buffer[16384];
  for (size_t sent = 0; !answer.done();) {
    if (TargetClock::now() >= end) return fail("no answer within ", absl::FormatDuration(patience));
    const bool writes = sent < wire.size();
    const ssize_t n = writes ? connection.Write(wire.data() + sent, wire.size() - sent)
                             : connection.Read(buffer, sizeof(buffer));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      AwaitUntil(connection, end);
    } else if (writes) {
      if (n < 0 && errno == ECONNREFUSED) return nobody("no server answers");
      if (n <= 0)
        return fail(connection.fault().empty() ? "the server hung up" : connection.fault());
      sent += static_cast<size_t>(n);
    } else {
      if (n == 0 && answer.FeedEnd()) break;
      if (n <= 0 || !answer.Feed({buffer, static_cast<size_t>(n)})) return fail("no HTTP answer");
    }
  }
  return TargetReply{answer.status(), answer.body()};
}

absl::StatusOr<std::string> FirstModelOf(const Target& target, const TargetAddress& address,
                                         absl::Duration patience) {
  ASSIGN_OR_RETURN(const TargetReply reply,
                   AskTarget(target, address, "GET", "/v1/models", "", patience));
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
