#include "api/http/http_server.h"

#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "api/http/http_loop.h"
#include "api/http/json_text.h"
#include "api/http/line_listener.h"
#include "api/http/listen_socket.h"
#include "api/http/response_head.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

namespace asio = boost::asio;
using boost::system::error_code;

class HttpServer::Core {
 public:
  using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;
  explicit Core(HttpServerOptions options) {
    shared_.options = std::move(options);
    const int threads = std::max(1, shared_.options.num_threads);
    for (int i = 0; i < threads; ++i) loops_.push_back(std::make_unique<HttpLoop>(&shared_));
    acceptor_.emplace(loops_.front()->context());
    retry_timer_.emplace(loops_.front()->context());
  }
  ~Core() { Drain(absl::ZeroDuration()); }

  absl::Status Bind() {
    ASSIGN_OR_RETURN(const BoundSocket bound, BindSocket(shared_.options.address));
    error_code error;
    acceptor_->assign({bound.family, 0}, bound.descriptor, error);
    if (error) {
      ::close(bound.descriptor);
      return ListenError(shared_.options.address, error);
    }
    port_ = bound.port;
    bound_ = true;
    return absl::OkStatus();
  }

  absl::Status Serve(const Router* router) {
    error_code error;
    acceptor_->listen(asio::socket_base::max_listen_connections, error);
    if (error) return ListenError(shared_.options.address, error);
    shared_.router = router;
    Accept();
    for (auto& loop : loops_) loop->Start();
    return absl::OkStatus();
  }

  absl::Status AddLineListener(const std::string& address, std::function<std::string()> line) {
    ASSIGN_OR_RETURN(const BoundSocket bound, BindSocket(address));
    error_code error;
    using asio::ip::tcp;
    tcp::acceptor acceptor(loops_.front()->context());
    acceptor.assign(bound.family == AF_INET6 ? tcp::v6() : tcp::v4(), bound.descriptor, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) return ListenError(address, error);
    line_port_ = bound.port;
    lines_ = std::make_shared<LineListener>(std::move(acceptor), std::move(line));
    lines_->Start();
    return absl::OkStatus();
  }

  void SetRouter(const Router* router) { shared_.router = router; }
  void CloseAfterAnswers() { shared_.closing = true; }

  void Drain(absl::Duration grace) {
    if (std::exchange(drained_, true)) return;
    shared_.draining = true;
    shared_.closing = true;
    asio::post(loops_.front()->context(), [this] {
      error_code error;
      acceptor_->close(error);
      retry_timer_->cancel();
    });
    for (auto& loop : loops_) loop->DrainAll();
    {
      std::unique_lock lock(shared_.mutex);
      const auto until = std::chrono::steady_clock::now() +
                         absl::ToChronoMilliseconds(std::min(grace, absl::Hours(24)));
      shared_.emptied.wait_until(lock, until, [this] { return shared_.num_connections == 0; });
    }
    for (auto& loop : loops_) loop->Stop();
    error_code error;
    acceptor_->close(error);
    if (lines_ != nullptr) lines_->Close();
    if (bound_) RemoveSocketFile(shared_.options.address);
  }

  int port() const { return port_; }
  int line_port() const { return line_port_; }
  int num_connections() {
    std::lock_guard lock(shared_.mutex);
    return shared_.num_connections;
  }

 private:
  static absl::Status ListenError(const std::string& address, error_code error) {
    if (error == asio::error::address_in_use) {
      return absl::UnavailableError(
          absl::StrCat(address, " is in use: stop what listens there, or choose another port"));
    }
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, ": ", error.message()));
  }

  void Accept() {
    HttpLoop* loop = loops_[next_loop_++ % loops_.size()].get();
    acceptor_->async_accept(loop->context(),
                            [this, loop](const error_code& error, StreamSocket socket) {
                              if (error == asio::error::operation_aborted || shared_.draining)
                                return;
                              if (!error) {
                                Admit(*loop, std::move(socket));
                                return Accept();
                              }
                              // Out of descriptors, most likely: the connection waits in the
                              // kernel's queue meanwhile.
                              retry_timer_->expires_after(std::chrono::milliseconds(50));
                              retry_timer_->async_wait([this](const error_code& stopped) {
                                if (!stopped) Accept();
                              });
                            });
  }

  void Admit(HttpLoop& loop, StreamSocket socket) {
    const int max_connections = shared_.options.config->Get()->limits.max_connections;
    {
      std::lock_guard lock(shared_.mutex);
      if (shared_.num_connections < max_connections) {
        ++shared_.num_connections;
        return loop.Adopt(std::move(socket));
      }
    }
    const std::string body = ErrorBody(503, "too many connections", "");
    const HttpHeaders headers = {{"Retry-After", "1"}};
    ResponseHead head;
    head.status = 503;
    head.content_type = "application/json";
    head.headers = &headers;
    head.content_length = body.size();
    head.close = true;
    std::string answer;
    AppendHead(answer, head);
    answer += body;
    error_code error;
    socket.non_blocking(true, error);
    if (!shared_.options.tls || IsUnixSocket(socket))
      socket.write_some(asio::buffer(answer), error);
    socket.shutdown(StreamSocket::shutdown_send, error);
    if (shared_.options.on_answer) shared_.options.on_answer(503);
    const Router* router = shared_.router;
    router->unread().CountUnread(503);
  }

  HttpShared shared_;
  std::vector<std::unique_ptr<HttpLoop>> loops_;
  std::optional<Acceptor> acceptor_;  // on the first loop
  std::optional<asio::steady_timer> retry_timer_;
  std::shared_ptr<LineListener> lines_;  // on the first loop
  size_t next_loop_ = 0;
  int port_ = 0;
  int line_port_ = 0;
  bool bound_ = false;
  bool drained_ = false;
};

HttpServer::HttpServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Bind(HttpServerOptions options) {
  auto core = std::make_unique<Core>(std::move(options));
  RETURN_IF_ERROR(core->Bind());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

int HttpServer::port() const { return core_->port(); }
int HttpServer::line_port() const { return core_->line_port(); }
void HttpServer::SetRouter(const Router* router) { core_->SetRouter(router); }
void HttpServer::CloseAfterAnswers() { core_->CloseAfterAnswers(); }
absl::Status HttpServer::AddLineListener(const std::string& address,
                                         std::function<std::string()> line) {
  return core_->AddLineListener(address, std::move(line));
}
absl::Status HttpServer::Serve(const Router* router) { return core_->Serve(router); }
void HttpServer::Drain(absl::Duration grace) { core_->Drain(grace); }
int HttpServer::num_connections() const { return core_->num_connections(); }

}  // namespace penstock
