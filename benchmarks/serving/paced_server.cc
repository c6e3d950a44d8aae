// paced_server [FIRST_SECONDS GAP_SECONDS]: an OpenAI-compatible server without a model, which streams
// each token when it is due and keeps when it was written, so that load generators can be held to the
// truth. It prints its port. GET /truth gives, and forgets, the median seconds to the first token and
// between tokens. It takes what the clients here send and is no server for anybody else.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace {

double Now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string Chunk(const std::string& text) {
  char head[32];
  std::snprintf(head, sizeof head, "%zx\r\n", text.size());
  return head + text + "\r\n";
}

std::string Reply(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

const std::string kModels = Reply(R"({"object":"list","data":[{"id":"paced","object":"model"}]})");
const std::string kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const std::string kToken =
    Chunk(R"(data: {"id":"c","object":"text_completion","created":1,"model":"paced","choices":)"
          R"([{"index":0,"text":" abc","logprobs":null,"finish_reason":null}]})"
          "\n\n");

std::string End(int tokens) {
  return Chunk(
             R"(data: {"id":"c","object":"text_completion","created":1,"model":"paced","choices":[],)"
             R"("usage":{"prompt_tokens":3,"completion_tokens":)" +
             std::to_string(tokens) + R"(,"total_tokens":)" + std::to_string(tokens + 3) +
             "}}\n\n") +
         Chunk("data: [DONE]\n\n") + "0\r\n\r\n";
}

struct Client {
  std::string in;
  int tokens = 0, left = 0;
  double asked = 0, due = 0, last = 0;
};

class PacedServer {
 public:
  PacedServer(double first, double gap) : first_(first), gap_(gap) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener_, 1024) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      std::exit(1);
    std::printf("%d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    epoll_ = epoll_create1(0);
    Watch(listener_);
  }

  [[noreturn]] void Run() {
    while (true) {
      double next = Now() + 1;
      for (const auto& [fd, client] : clients_) {
        if (client.left > 0) next = std::min(next, client.due);
      }
      const auto wait = static_cast<int64_t>(std::max(0.0, next - Now()) * 1e9);
      const timespec until{0, std::min<int64_t>(wait, 999999999)};
      epoll_event events[256];
      const int n = epoll_pwait2(epoll_, events, 256, &until, nullptr);
      for (int i = 0; i < n; ++i) {
        events[i].data.fd == listener_ ? Accept() : Receive(events[i].data.fd);
      }
      const double now = Now();
      for (auto& [fd, client] : clients_) {
        if (client.left > 0 && client.due <= now) SendToken(fd, client);
      }
    }
  }

 private:
  void Watch(int fd) const {
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void Accept() {
    const int one = 1;
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      clients_[fd];
      Watch(fd);
    }
  }

  void Receive(int fd) {
    Client& client = clients_[fd];
    char buffer[65536];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0) {
      close(fd);
      clients_.erase(fd);
      return;
    }
    client.in.append(buffer, static_cast<size_t>(n));
    const size_t body = client.in.find("\r\n\r\n");
    if (body == std::string::npos ||
        client.in.size() < body + 4 + NumberAfter(client.in, "ength: "))
      return;
    if (client.in.starts_with("GET /truth")) {
      Say(fd, Reply("{\"ttft\":" + Median(ttft_) + ",\"itl\":" + Median(gaps_) + "}"));
    } else if (client.in.starts_with("GET")) {
      Say(fd, kModels);
    } else {
      client.tokens = client.left = static_cast<int>(std::max(
          NumberAfter(client.in, "max_tokens\":"), NumberAfter(client.in, "max_tokens\": ")));
      client.asked = Now();
      client.due = client.asked + first_;
      Say(fd, kHead);
    }
    client.in.clear();
  }

  void SendToken(int fd, Client& client) {
    Say(fd, kToken);
    const double now = Now();
    client.left == client.tokens ? ttft_.push_back(now - client.asked)
                                 : gaps_.push_back(now - client.last);
    client.last = now;
    client.due += gap_;
    if (--client.left == 0) Say(fd, End(client.tokens));
  }

  static void Say(int fd, const std::string& bytes) {
    if (send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) shutdown(fd, SHUT_RDWR);
  }

  static size_t NumberAfter(const std::string& text, std::string_view key) {
    const size_t at = text.find(key);
    return at == std::string::npos ? 0 : std::strtoul(text.c_str() + at + key.size(), nullptr, 10);
  }

  static std::string Median(std::vector<double>& values) {
    double median = 0;
    if (!values.empty()) {
      const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
      std::nth_element(values.begin(), middle, values.end());
      median = *middle;
      values.clear();
    }
    return std::to_string(median);
  }

  const double first_, gap_;
  int listener_ = -1, epoll_ = -1;
  std::map<int, Client> clients_;
  std::vector<double> ttft_, gaps_;
};

}  // namespace

int main(int argc, char** argv) {
  PacedServer(argc > 1 ? std::atof(argv[1]) : 0.05, argc > 2 ? std::atof(argv[2]) : 0.02).Run();
}
