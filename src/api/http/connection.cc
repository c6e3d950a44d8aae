#include "api/http/connection.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <utility>

#include "api/http/cors.h"
#include "api/http/host_names.h"
#include "api/http/http_loop.h"
#include "api/http/json_text.h"
#include "api/http/response_head.h"
#include "service/ids.h"

namespace penstock {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr size_t kMaxPipelined = 65536;  // bytes of further requests read while one is answered
constexpr uint32_t kMaxHeaderBytes = 32768;
constexpr size_t kUnjudgedBody = 65536;  // of a request whose right to ask was not looked at
constexpr auto kLinger = std::chrono::milliseconds(1000);
constexpr auto kIdleLinger = std::chrono::milliseconds(100);  // nothing is on its way to the client
constexpr int64_t kLeastBodyRate = 4096;                      // bytes a second

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

bool IsOwnOrigin(std::string_view origin, std::string_view host) {
  constexpr std::string_view kScheme = "https://";
  return origin.empty() || (origin.starts_with(kScheme) && origin.substr(kScheme.size()) == host);
}

/// A machine that is gone says no goodbye: after a minute of silence whoever asked from it is gone too.
void AskWhetherThePeerIsThere(int socket) {
  constexpr std::array<std::array<int, 3>, 4> kOptions = {{{SOL_SOCKET, SO_KEEPALIVE, 1},
                                                           {IPPROTO_TCP, TCP_KEEPIDLE, 30},  // s
                                                           {IPPROTO_TCP, TCP_KEEPINTVL, 10},
                                                           {IPPROTO_TCP, TCP_KEEPCNT, 3}}};
  for (const auto& [level, name, value] : kOptions)
    setsockopt(socket, level, name, &value, sizeof value);
}

/// Also where what it sent before has not been read.
bool PeerHasClosed(int socket) {
  pollfd peer{socket, POLLRDHUP, 0};
  return ::poll(&peer, 1, 0) > 0;
}

struct Fault {
  int status = 0;
  std::string message;
};

/// What leaves open where the request ends or whom it is for (RFC 9112, sections 3.2 and 6.1), which
/// a proxy before this server may have read in another way.
std::optional<Fault> FramingFault(const http::request_header<>& header) {
  const size_t codings = header.count(http::field::transfer_encoding);
  if (codings > 0 && header.version() < 11)
    return Fault{400, "the request is no HTTP: Transfer-Encoding needs HTTP/1.1"};
  if (codings > 1 ||
      (codings == 1 && !boost::beast::iequals(header[http::field::transfer_encoding], "chunked")))
    return Fault{501, "the Transfer-Encoding must be chunked, and nothing else"};
  const size_t hosts = header.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && header.version() >= 11))
    return Fault{400, "the request is no HTTP: it has " + std::to_string(hosts) + " Host headers"};
  return std::nullopt;
}

}  // namespace

struct ParserBox {
  http::request_parser<http::string_body> parser;
  bool header_seen = false, judged = false;
  int64_t max_body = 0;  // bytes
};

Connection::Connection(StreamSocket socket, HttpLoop* loop)
    : socket_(std::move(socket)), loop_(loop) {}

Connection::~Connection() = default;

void Connection::Start() {
  error_code error;
  socket_.non_blocking(true, error);
  by_socket_ = IsUnixSocket(socket_);
  if (by_socket_) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
      peer_uid_ = peer.uid;
  } else {
    socket_.set_option(asio::ip::tcp::no_delay(true), error);
    AskWhetherThePeerIsThere(socket_.native_handle());
    peer_ = PeerAddress(socket_);
    if (const auto& tls = loop_->shared().options.tls)
      tls_ = std::make_unique<TlsSession>(tls(), socket_.native_handle());
  }
  request_began_ = std::chrono::steady_clock::now();
  last_progress_ = std::chrono::steady_clock::now();
  WaitReadable();
}

void Connection::WaitReadable() {
  if (read_waiting_ || closed_ || in_.size() >= kMaxPipelined) return;
  read_waiting_ = true;
  socket_.async_wait(read_needs_write_ ? StreamSocket::wait_write : StreamSocket::wait_read,
                     [self = shared_from_this()](const error_code&) {
                       self->read_waiting_ = false;
                       if (!self->closed_) self->OnReadable();
                     });
}

size_t Connection::ReadSome(char* data, size_t size, error_code& error) {
  if (tls_ == nullptr) return socket_.read_some(asio::buffer(data, size), error);
  const TlsSession::Moved moved = tls_->Read(data, size);
  read_needs_write_ = moved.bytes == 0 && moved.wants == TlsSession::Wants::kWrite;
  if (!names_ && tls_->established())
    names_ = std::make_shared<const std::vector<std::string>>(tls_->names());
  if (moved.bytes == 0)
    error = moved.wants == TlsSession::Wants::kEnd ? error_code(asio::error::eof)
                                                   : error_code(asio::error::would_block);
  return moved.bytes;
}

size_t Connection::WriteSome(const char* data, size_t size, error_code& error) {
  if (tls_ == nullptr) return socket_.write_some(asio::buffer(data, size), error);
  const TlsSession::Moved moved = tls_->Write(data, size);
  write_needs_read_ = moved.bytes == 0 && moved.wants == TlsSession::Wants::kRead;
  if (moved.bytes == 0)
    error = moved.wants == TlsSession::Wants::kEnd ? error_code(asio::error::eof)
                                                   : error_code(asio::error::would_block);
  return moved.bytes;
}

// A client that closes its side is gone, also when it closed only its sending half: nobody can tell
// the two apart.
void Connection::OnReadable() {
  auto& scratch = loop_->scratch();
  error_code error;
  const size_t count = ReadSome(scratch.data(), scratch.size(), error);
  if (error == asio::error::would_block) return WaitReadable();
  if (error) return Close(CancelReason::kDisconnect);
  last_progress_ = std::chrono::steady_clock::now();
  if (!lingering_) {
    in_.append(scratch.data(), count);
    if (!answering()) Parse();
  }
  if (!closed_) WaitReadable();
}

void Connection::Parse() {
  size_t at = 0;
  while (!answering() && !close_after_send_ && at < in_.size()) {
    if (parser_ == nullptr) {
      parser_ = std::make_unique<ParserBox>();
      parser_->parser.eager(true);
      parser_->parser.header_limit(kMaxHeaderBytes);
      parser_->max_body = loop_->shared().options.config->Get()->limits.max_body.value;
      parser_->parser.body_limit(static_cast<uint64_t>(parser_->max_body));
      request_began_ = std::chrono::steady_clock::now();
    }
    auto& parser = parser_->parser;
    error_code error;
    const size_t used = parser.put(asio::buffer(in_.data() + at, in_.size() - at), error);
    at += used;
    // Before what is said of the body, so that it does not matter how much of it is there.
    const bool header_done = parser.is_header_done() && !std::exchange(parser_->header_seen, true);
    if (header_done) {
      if (const std::optional<Fault> fault = FramingFault(parser.get())) {
        Refuse(fault->status, fault->message);
        break;
      }
    }
    if (error == http::error::need_more) error = {};
    if (error == http::error::body_limit) {
      Refuse(413, "the body is larger than " + std::to_string(parser_->max_body) + " bytes");
      break;
    }
    if (error == http::error::header_limit) {
      Refuse(431, "the headers are larger than " + std::to_string(kMaxHeaderBytes) + " bytes");
      break;
    }
    if (error) {
      Refuse(400, "the request is no HTTP: " + error.message());
      break;
    }
    if (!parser.is_done() && parser.get().body().size() > kUnjudgedBody &&
        !std::exchange(parser_->judged, true)) {
      // Nobody fills this process's memory who may not ask.
      HttpRequest head = HeadOf(*loop_->shared().options.config->Get());
      if (const Router* router = loop_->shared().router; router->Refuses(head)) {
        BeginAnswer();
        break;
      }
    }
    if (header_done && !parser.is_done()) {
      const auto expect = parser.get().find(http::field::expect);
      // A client of HTTP/1.0 knows no such answer (RFC 9110, 10.1.1).
      if (parser.get().version() >= 11 && expect != parser.get().end() &&
          boost::beast::iequals(expect->value(), "100-continue")) {
        out_ += "HTTP/1.1 100 Continue\r\n\r\n";
        Flush();
        if (closed_) return;
      }
    }
    if (parser.is_done()) {
      BeginAnswer();
    } else if (used == 0) {
      break;
    }
  }
  in_.erase(0, at);
}

HttpRequest Connection::HeadOf(const ServerConfig& config) const {
  const auto& message = parser_->parser.get();
  const HttpShared& shared = loop_->shared();
  HttpRequest request;
  request.arrival = shared.options.clock->Now();
  request.method = std::string(View(message.method_string()));
  const std::string_view target = View(message.target());
  const size_t question = target.find('?');
  request.path = PercentDecode(target.substr(0, question));
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
  request.request_id = CleanRequestId(View(message["X-Request-Id"]));
  if (request.request_id.empty()) request.request_id = MakeRequestId();
  request.trace = ContinueTrace(View(message["traceparent"]), SampledShare(config.observe));
  request.idempotency_key = std::string(View(message["Idempotency-Key"]));
  request.if_none_match = std::string(View(message[http::field::if_none_match]));
  request.credential = std::string(View(message[http::field::authorization]));
  if (request.credential.empty()) request.credential = std::string(View(message["X-Api-Key"]));
  request.content_encoding = std::string(View(message[http::field::content_encoding]));
  request.peer = peer_;
  if (tls_ != nullptr) request.certificate_refused = !tls_->AcceptsPeer(*shared.options.tls());
  // A proxy on this machine hands on what others ask.
  request.by_socket = by_socket_;
  request.peer_uid = peer_uid_;
  request.is_local = (by_socket_ || peer_.loopback()) && message.count("X-Forwarded-For") == 0 &&
                     message.count("Forwarded") == 0;
  HttpHeaders cors;
  const bool page_reads =
      shared.options.cross_origin &&
      AppendCorsHeaders(config.server.cors_origins, View(message[http::field::origin]), cors);
  // A browser shows a certificate for any page that asks: it counts where the page is of this server
  // or of an origin that is allowed.
  if (page_reads || IsOwnOrigin(View(message[http::field::origin]), View(message["Host"])))
    request.peer_names = names_;
  if (page_reads && message.method() == http::verb::options) {
    request.is_preflight = message.count("Access-Control-Request-Method") > 0;
    request.preflight_headers = std::string(View(message["Access-Control-Request-Headers"]));
  }
  if (const std::string_view host = View(message["Host"]);
      shared.options.check_host && !by_socket_ && !IsAllowedHost(config, host))
    request.wrong_host = std::string(host);
  return request;
}

void Connection::BeginAnswer() {
  HttpShared& shared = loop_->shared();
  const std::shared_ptr<const ServerConfig> config = shared.options.config->Get();
  HttpRequest request = HeadOf(*config);
  const bool whole = parser_->parser.is_done();
  auto message = parser_->parser.release();
  parser_.reset();
  request.body = std::move(message.body());

  ResponsePipe::Settings settings;
  settings.headers.emplace_back("traceparent", Traceparent(request.trace));
  if (shared.options.cross_origin) {
    AppendCorsHeaders(config->server.cors_origins, View(message[http::field::origin]),
                      settings.headers);
  }
  settings.accept_encoding = std::string(View(message[http::field::accept_encoding]));
  settings.keep_alive = whole && message.keep_alive();
  settings.http_1_0 = message.version() < 11;
  settings.head_only = message.method() == http::verb::head;
  settings.stream_buffer = static_cast<size_t>(config->limits.stream_buffer.value);
  settings.request_id = request.request_id;
  settings.closing = &shared.closing;
  settings.on_answer = &shared.options.on_answer;
  settings.began = request_began_;
  settings.flush = [self = shared_from_this()] {
    asio::post(self->socket_.get_executor(), [self] { self->Flush(); });
  };
  pipe_ = std::make_shared<ResponsePipe>(std::move(settings));
  last_taken_ = false;
  const Router* router = shared.router;
  router->Serve(std::make_shared<LiveExchange>(std::move(request), pipe_));
}

// An answer to what never became a request; the connection ends with it.
void Connection::Refuse(int status, std::string_view message) {
  const std::string body = ErrorBody(status, message, "");
  ResponseHead head;
  head.status = status;
  head.content_type = "application/json";
  head.content_length = body.size();
  head.close = true;
  AppendHead(out_, head);
  out_ += body;
  parser_.reset();
  close_after_send_ = true;
  const HttpShared& shared = loop_->shared();
  if (shared.options.on_answer) shared.options.on_answer(status);
  const Router* router = shared.router;
  router->unread().CountUnread(status);
  Flush();
}

// Sends out_; false: the rest waits for the socket, or the connection is closed.
bool Connection::SendSome() {
  while (sent_ < out_.size()) {
    error_code error;
    const size_t count = WriteSome(out_.data() + sent_, out_.size() - sent_, error);
    if (error == asio::error::would_block) {
      if (pipe_ != nullptr) pipe_->Sent(out_.size() - sent_);
      write_waiting_ = true;
      socket_.async_wait(write_needs_read_ ? StreamSocket::wait_read : StreamSocket::wait_write,
                         [self = shared_from_this()](const error_code&) {
                           self->write_waiting_ = false;
                           self->Flush();
                         });
      return false;
    }
    if (error) {
      Close(CancelReason::kDisconnect);
      return false;
    }
    sent_ += count;
    last_progress_ = std::chrono::steady_clock::now();
  }
  out_.clear();
  sent_ = 0;
  return true;
}

void Connection::Flush() {
  if (closed_ || write_waiting_) return;
  while (true) {
    if (!SendSome()) return;
    if (pipe_ == nullptr) break;
    pipe_->Sent(0);
    if (last_taken_) return EndAnswer();
    last_taken_ = pipe_->Take(out_);
    if (out_.empty()) {
      if (last_taken_) EndAnswer();
      return;
    }
  }
  if (close_after_send_) Linger(kLinger);
}

void Connection::EndAnswer() {
  const bool closes = pipe_->closes();
  const std::shared_ptr<ResponsePipe> done = std::exchange(pipe_, nullptr);
  done->Gone(CancelReason::kDisconnect);  // drops its callbacks
  if (closes || loop_->shared().closing) return Linger(kLinger);
  last_progress_ = std::chrono::steady_clock::now();
  Parse();
  WaitReadable();
}

// Closes our side and waits a moment for the client's: a close with bytes unread would take the
// answer from it.
void Connection::Linger(std::chrono::milliseconds most) {
  if (lingering_ || closed_) return;
  lingering_ = true;
  linger_most_ = most;
  close_after_send_ = true;
  in_.clear();
  error_code error;
  if (tls_ != nullptr) tls_->End();
  socket_.shutdown(StreamSocket::shutdown_send, error);
  if (error) return Close(CancelReason::kDisconnect);
  request_began_ = std::chrono::steady_clock::now();
  WaitReadable();
}

void Connection::Close(CancelReason reason) {
  if (closed_) return;
  closed_ = true;
  const std::shared_ptr<Connection> self = shared_from_this();
  error_code error;
  socket_.close(error);
  if (const std::shared_ptr<ResponsePipe> pipe = std::exchange(pipe_, nullptr)) pipe->Gone(reason);
  loop_->Forget(self);
}

void Connection::Sweep(const LimitsSection& limits, TimePoint now) {
  const auto over = [now](TimePoint since, absl::Duration limit) {
    return now - since > absl::ToChronoNanoseconds(limit);
  };
  if (lingering_) {
    if (now - request_began_ > linger_most_) Close(CancelReason::kDisconnect);
  } else if (answering()) {
    const auto congested = pipe_->congested_since();
    const bool stalled = congested && over(*congested, limits.write_stall);
    if (stalled || (write_waiting_ && over(last_progress_, limits.idle_timeout))) {
      Close(CancelReason::kSlowReader);
    } else if (in_.size() >= kMaxPipelined && PeerHasClosed(socket_.native_handle())) {
      Close(CancelReason::kDisconnect);  // nothing is read, so no end is seen
    }
  } else if (tls_ != nullptr && !tls_->established()) {
    if (over(request_began_, limits.header_timeout)) Close(CancelReason::kDisconnect);
  } else if (parser_ != nullptr && !parser_->header_seen) {
    if (over(request_began_, limits.header_timeout)) Refuse(408, "the headers took too long");
  } else if (over(last_progress_, limits.idle_timeout)) {
    Close(CancelReason::kDisconnect);
  } else if (parser_ != nullptr && IsTooSlow(limits, now)) {
    Refuse(408, "the body took too long");
  }
}

/// A body may take idle_timeout, and what it holds takes at a rate that any network has.
bool Connection::IsTooSlow(const LimitsSection& limits, TimePoint now) const {
  const auto received = static_cast<int64_t>(parser_->parser.get().body().size());
  const absl::Duration most = limits.idle_timeout + absl::Seconds(received / kLeastBodyRate);
  return now - request_began_ > absl::ToChronoNanoseconds(most);
}

void Connection::Drain() {
  if (!answering() && parser_ == nullptr && in_.empty() && out_.empty()) Linger(kIdleLinger);
}

}  // namespace penstock
