#include "bench/load_run.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "bench/http_stream.h"

namespace penstock {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct Client {
  std::unique_ptr<Socket> socket;
  int32_t request = -1;  // -1: idle
  bool reused = false;   // the connection has carried a request before this one
  bool heard = false;    // something of the answer has come
  std::string out;
  size_t sent = 0;
  HttpStream answer;
  size_t events_seen = 0;  // bytes of the body already looked at
  bool got_piece = false;
  double last_piece = 0;
};

/// utime + stime in seconds, and resident bytes.
bool ReadProcess(int64_t pid, double& cpu, int64_t& rss) {
  std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream text;
  text << stat.rdbuf();
  const std::string all = text.str();
  const size_t paren = all.rfind(')');
  if (paren == all.npos) return false;
  std::istringstream fields(all.substr(paren + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; fields >> field; ++i) {
    if (i == 14 || i == 15) ticks += std::stod(field);
    if (i == 24) rss = std::stoll(field) * sysconf(_SC_PAGE_SIZE);
  }
  cpu = ticks / sysconf(_SC_CLK_TCK);
  return true;
}

class LoadRun {
 public:
  LoadRun(const Scenario& scenario, const Target& target) : scenario_(scenario), target_(target) {}

  absl::StatusOr<LoadResult> Run() {
    address_.sin_family = AF_INET;
    address_.sin_port = htons(target_.port);
    if (inet_pton(AF_INET, target_.host.c_str(), &address_.sin_addr) != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("host '", target_.host, "': expected a numeric IPv4 address"));
    }
    model_ = scenario_.model;
    if (model_.empty()) {
      ASSIGN_OR_RETURN(model_, FirstModel());
    }
    PlanArrivals();
    double cpu_before = 0;
    int64_t rss = -1;
    const bool measured = target_.pid > 0 && ReadProcess(target_.pid, cpu_before, rss);
    begin_ = Now();
    RETURN_IF_ERROR(Drive());
    result_.seconds = Now() - begin_;
    double cpu_after = 0;
    if (measured && ReadProcess(target_.pid, cpu_after, result_.server_rss_bytes)) {
      result_.server_cpu_seconds = cpu_after - cpu_before;
    }
    return std::move(result_);
  }

 private:
  void PlanArrivals() {
    result_.requests.resize(scenario_.requests);
    if (scenario_.rate <= 0) return;
    std::mt19937_64 random(scenario_.seed);
    std::exponential_distribution<> gap(scenario_.rate);
    double at = 0;
    for (RequestTiming& request : result_.requests) request.start = at += gap(random);
  }

  std::string Wire(std::string_view method, std::string_view path, std::string_view body) const {
    std::string out = absl::StrCat(ToAbsl(method), " ", ToAbsl(path),
                                   " HTTP/1.1\r\nHost: ", target_.host, ":", target_.port, "\r\n");
    if (!target_.api_key.empty())
      absl::StrAppend(&out, "Authorization: Bearer ", target_.api_key, "\r\n");
    if (!body.empty()) absl::StrAppend(&out, "Content-Type: application/json\r\n");
    absl::StrAppend(&out, "Content-Length: ", body.size(), "\r\n\r\n", ToAbsl(body));
    return out;
  }

  absl::StatusOr<std::unique_ptr<Socket>> Connect(bool blocking) const {
    auto socket = std::make_unique<Socket>(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    setsockopt(socket->fd(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(socket->fd(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) !=
        0) {
      return absl::UnavailableError(
          absl::StrCat("no server answers on ", target_.host, ":", target_.port));
    }
    if (!blocking) fcntl(socket->fd(), F_SETFL, O_NONBLOCK);
    return socket;
  }

  absl::StatusOr<std::string> FirstModel() const {
    ASSIGN_OR_RETURN(const std::unique_ptr<Socket> socket, Connect(/*blocking=*/true));
    const std::string wire = Wire("GET", "/v1/models", "");
    if (send(socket->fd(), wire.data(), wire.size(), MSG_NOSIGNAL) < 0)
      return absl::UnavailableError("the server hung up");
    HttpStream answer;
    char buffer[16384];
    while (!answer.done()) {
      const ssize_t n = read(socket->fd(), buffer, sizeof(buffer));
      if (n <= 0 || !answer.Feed({buffer, static_cast<size_t>(n)}))
        return absl::UnavailableError("/v1/models: no HTTP answer");
    }
    const std::string_view body = answer.body();
    const size_t id = body.find("\"id\"");
    const size_t open = id == body.npos ? id : body.find('"', id + 5);
    const size_t close = open == body.npos ? open : body.find('"', open + 1);
    if (answer.status() != 200 || close == body.npos) {
      return absl::UnavailableError(
          absl::StrCat("/v1/models: HTTP ", answer.status(), ", no model listed"));
    }
    return std::string(body.substr(open + 1, close - open - 1));
  }

  absl::Status Drive() {
    epoll_ = std::make_unique<Socket>(epoll_create1(EPOLL_CLOEXEC));
    std::vector<epoll_event> events(256);
    while (num_done_ < scenario_.requests) {
      if (Now() - begin_ > scenario_.timeout_seconds) {
        return absl::DeadlineExceededError(
            absl::StrCat("only ", num_done_, " of ", scenario_.requests, " requests ended within ",
                         scenario_.timeout_seconds, " s"));
      }
      RETURN_IF_ERROR(StartDue());
      const int n = epoll_wait(epoll_->fd(), events.data(), events.size(), WaitMillis());
      for (int i = 0; i < n; ++i) {
        Client& client = *static_cast<Client*>(events[i].data.ptr);
        if (events[i].events & EPOLLOUT) Send(client);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) Receive(client);
      }
    }
    return absl::OkStatus();
  }

  int WaitMillis() const {
    if (scenario_.rate <= 0 || next_ >= scenario_.requests) return 1000;
    const double wait = begin_ + result_.requests[next_].start - Now();
    return wait <= 0 ? 0 : std::min(1000, static_cast<int>(wait * 1000) + 1);
  }

  absl::Status StartDue() {
    for (; next_ < scenario_.requests; ++next_) {
      if (scenario_.rate > 0 ? Now() < begin_ + result_.requests[next_].start
                             : num_active_ >= scenario_.concurrency)
        break;
      if (scenario_.rate <= 0) result_.requests[next_].start = Now() - begin_;
      Client* client = nullptr;
      if (!idle_.empty()) {
        client = idle_.back();
        idle_.pop_back();
      } else {
        clients_.push_back(std::make_unique<Client>());
        client = clients_.back().get();
      }
      client->reused = client->socket != nullptr;
      if (!client->reused) RETURN_IF_ERROR(Dial(*client));
      const char* path = scenario_.endpoint == "chat" ? "/v1/chat/completions" : "/v1/completions";
      client->request = next_;
      client->out = Wire("POST", path, RequestBody(scenario_, model_, next_));
      client->sent = 0;
      client->heard = false;
      client->answer.Reset();
      client->events_seen = 0;
      client->got_piece = false;
      ++num_active_;
      Send(*client);
    }
    return absl::OkStatus();
  }

  absl::Status Dial(Client& client) {
    ASSIGN_OR_RETURN(client.socket, Connect(/*blocking=*/false));
    epoll_event event{EPOLLIN | EPOLLOUT | EPOLLET, {.ptr = &client}};
    epoll_ctl(epoll_->fd(), EPOLL_CTL_ADD, client.socket->fd(), &event);
    return absl::OkStatus();
  }

  /// A server may close a kept connection just as a request leaves for it: clients then ask again
  /// on a new one (RFC 9112, section 9.3.1).
  bool AskAgain(Client& client) {
    if (client.request < 0 || !client.reused || client.heard) return false;
    client.socket.reset();
    client.reused = false;
    client.sent = 0;
    if (!Dial(client).ok()) return false;
    Send(client);
    return true;
  }

  void Send(Client& client) {
    while (client.sent < client.out.size()) {
      const ssize_t n = send(client.socket->fd(), client.out.data() + client.sent,
                             client.out.size() - client.sent, MSG_NOSIGNAL);
      if (n <= 0) return;  // EAGAIN: the socket tells when; an error shows when reading
      client.sent += n;
    }
  }

  void Receive(Client& client) {
    char buffer[65536];
    while (client.socket != nullptr) {
      const ssize_t n = read(client.socket->fd(), buffer, sizeof(buffer));
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (n <= 0 && AskAgain(client)) continue;
      client.heard = true;
      const bool fed =
          n > 0 && client.request >= 0 && client.answer.Feed({buffer, static_cast<size_t>(n)});
      if (fed) NotePieces(client);
      if (!fed || client.answer.done()) Finish(client, fed);
    }
  }

  void NotePieces(Client& client) {
    const double now = Now() - begin_;
    RequestTiming& timing = result_.requests[client.request];
    const std::string_view fresh =
        std::string_view(client.answer.body()).substr(client.events_seen);
    const bool piece =
        scenario_.stream ? fresh.find("data: {") != fresh.npos : client.answer.done();
    client.events_seen = client.answer.body().size();
    if (!piece) return;
    if (!client.got_piece) {
      timing.first = now;
    } else {
      timing.gaps.push_back(now - client.last_piece);
    }
    client.got_piece = true;
    client.last_piece = now;
  }

  void Finish(Client& client, bool whole) {
    if (client.request >= 0) {
      RequestTiming& timing = result_.requests[client.request];
      timing.end = Now() - begin_;
      timing.status = client.answer.status();
      const std::string& body = client.answer.body();
      timing.ok = whole && timing.status == 200 &&
                  (!scenario_.stream || body.find("data: [DONE]") != body.npos);
      timing.prompt_tokens = LastNumber(body, "prompt_tokens");
      timing.completion_tokens = LastNumber(body, "completion_tokens");
      timing.cached_tokens = LastNumber(body, "cached_tokens");
      if (!timing.ok && result_.first_error.empty()) {
        result_.first_error = absl::StrCat("HTTP ", timing.status, ": ", body.substr(0, 300));
      }
      ++num_done_;
      --num_active_;
      client.request = -1;
      idle_.push_back(&client);
    }
    if (!whole || !client.answer.keep_alive()) client.socket.reset();
    client.answer.Reset();
  }

  const Scenario& scenario_;
  const Target& target_;
  std::string model_;
  sockaddr_in address_{};
  std::unique_ptr<Socket> epoll_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<Client*> idle_;
  int32_t next_ = 0, num_active_ = 0, num_done_ = 0;
  double begin_ = 0;
  LoadResult result_;
};

}  // namespace

absl::StatusOr<LoadResult> RunLoad(const Scenario& scenario, const Target& target) {
  return LoadRun(scenario, target).Run();
}

}  // namespace penstock
