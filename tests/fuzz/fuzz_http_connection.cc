// The HTTP server over a socket: what a client sends, whole and cut in two, is the same requests and
// gets the same answers (where a cut changes the meaning, a proxy before us can be smuggled past).
// The first two bytes say where the rest is cut.
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "api/http/http_server.h"
#include "base/strings.h"

namespace {

using namespace penstock;

/// A server on a file of a private directory, and what its endpoint was given.
class Served {
 public:
  Served() {
    std::string folder = (std::filesystem::temp_directory_path() / "fuzz_http_XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) std::abort();
    path_ = folder + "/socket";
    router_.Add("POST", "/v1/{rest}", RouteAccess::Open(),
                [this](std::shared_ptr<HttpExchange> exchange) { Take(*exchange); });
    router_.SetFallback([this](std::shared_ptr<HttpExchange> exchange) { Take(*exchange); });
    ServerConfig config;
    config.limits.max_body.value = 4096;
    config_.Set(std::move(config));
    HttpServerOptions options;
    options.address = "unix:" + path_;
    options.config = &config_;
    options.clock = &SystemClock::Get();
    absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Bind(std::move(options));
    if (!server.ok() || !(*server)->Serve(&router_).ok()) std::abort();
    server_ = *std::move(server);
  }

  struct Heard {
    std::string requests, answers;
  };
  Heard Talk(std::string_view first, std::string_view second) {
    {
      const std::lock_guard lock(mutex_);
      seen_.clear();
    }
    const int fd = Connect();
    for (const std::string_view part : {first, second}) {
      if (!part.empty()) (void)send(fd, part.data(), part.size(), MSG_NOSIGNAL);
    }
    // One thread serves all: what it does with these bytes is done when a neighbour has been
    // answered three times and nothing more came here.
    std::string answers;
    char buffer[16384];
    for (int quiet = 0; quiet < 3; ++quiet) {
      AskNeighbour();
      int unread = 0;  // by the server
      ioctl(fd, SIOCOUTQ, &unread);
      if (unread > 0) quiet = -1;
      ssize_t n = 0;
      for (; (n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0; quiet = -1)
        answers.append(buffer, n);
      if (n == 0 || (n < 0 && errno != EAGAIN)) break;  // the server has closed
    }
    close(fd);
    const std::lock_guard lock(mutex_);
    return {seen_, StableLines(answers)};
  }

 private:
  int Connect() const {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      std::abort();
    return fd;
  }

  void AskNeighbour() {
    if (neighbour_ < 0) neighbour_ = Connect();
    constexpr std::string_view kAsk = "GET /neighbour HTTP/1.1\r\nHost: x\r\n\r\n";
    char buffer[4096];
    if (send(neighbour_, kAsk.data(), kAsk.size(), MSG_NOSIGNAL) < 0 ||
        recv(neighbour_, buffer, sizeof(buffer), 0) <= 0) {
      close(neighbour_);  // kept for too long, perhaps
      neighbour_ = -1;
    }
  }

  void Take(HttpExchange& exchange) {
    const HttpRequest& request = exchange.request();
    if (request.path != "/neighbour") {
      const std::lock_guard lock(mutex_);
      absl::StrAppend(&seen_, request.method, " ", request.path, "?", request.query, " ",
                      request.credential, " ", request.idempotency_key, "\n", request.body, "\n");
    }
    HttpResponse response;
    response.body = std::to_string(request.body.size()) + "\n";
    exchange.Respond(std::move(response));
  }

  /// Without the lines that differ each time, and "100 Continue", which is not said to who did not
  /// wait for it.
  static std::string StableLines(std::string_view answers) {
    std::string out;
    while (!answers.empty()) {
      // A body has no line end of its own.
      const size_t end = std::min(answers.find('\n'), answers.find("HTTP/1.1 ", 1) - 1);
      const std::string_view line = answers.substr(0, end + 1);
      static constexpr std::string_view kOmitted[] = {
          "traceparent:", "X-Request-Id:", "Date:", "HTTP/1.1 100 ", "\r"};
      const auto begins = [line](std::string_view with) { return line.starts_with(with); };
      if (std::none_of(std::begin(kOmitted), std::end(kOmitted), begins))
        absl::StrAppend(&out, absl::StripSuffix(ToAbsl(line), "\n"), "\n");
      answers.remove_prefix(line.size());
    }
    return out;
  }

  const AccessControl control_{*MakeAccessRules(ServerConfig())};
  Router router_{&control_};
  Live<ServerConfig> config_{ServerConfig()};
  std::string path_, seen_;
  int neighbour_ = -1;
  std::mutex mutex_;
  std::unique_ptr<HttpServer> server_;
};

/// The same, or one of them says already what is wrong with bytes whose rest the other awaits.
bool Agree(std::string_view a, std::string_view b) {
  if (a.size() > b.size()) std::swap(a, b);
  if (!b.starts_with(a)) return false;
  const std::string_view more = b.substr(a.size());
  return more.empty() || more.starts_with("HTTP/1.1 4");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Served& served = *new Served;  // lives as long as the process, as its threads do
  if (size < 3) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t cut = (data[0] + 256 * size_t{data[1]}) % text.size();
  const Served::Heard whole = served.Talk(text, {});
  const Served::Heard in_two = served.Talk(text.substr(0, cut), text.substr(cut));
  if (whole.requests == in_two.requests && Agree(whole.answers, in_two.answers)) return 0;
  std::fprintf(stderr, "--- whole\n%s%s\n--- cut at %zu\n%s%s\n", whole.requests.c_str(),
               whole.answers.c_str(), cut, in_two.requests.c_str(), in_two.answers.c_str());
  __builtin_trap();
}
