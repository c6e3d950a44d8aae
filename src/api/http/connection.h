// One client's connection: reads requests one after the other, sends each one's answer.
// Owns its socket and the bytes in transit. Must not know routes' endpoints or other connections.
// Threads: confined to its HttpLoop's thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/http/listen_socket.h"
#include "api/http/response_pipe.h"
#include "api/http/tls_session.h"
#include "penstock/config.h"

namespace penstock {

class HttpLoop;
struct HttpRequest;
struct ParserBox;  // the Beast parser, kept out of this header

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  Connection(StreamSocket socket, HttpLoop* loop);
  ~Connection();

  void Start();
  /// Enforces the time limits; called a few times a second.
  void Sweep(const LimitsSection& limits, TimePoint now);
  /// Ends as soon as nothing is being answered.
  void Drain();
  void Close(CancelReason reason);

 private:
  void WaitReadable();
  void OnReadable();
  size_t ReadSome(char* data, size_t size, boost::system::error_code& error);
  size_t WriteSome(const char* data, size_t size, boost::system::error_code& error);
  void Parse();
  /// What the head says, and of whom; without the body.
  HttpRequest HeadOf(const ServerConfig& config) const;
  void BeginAnswer();
  void Refuse(int status, std::string_view message);
  void Flush();
  bool SendSome();
  void EndAnswer();
  void Linger(std::chrono::milliseconds most);
  bool IsTooSlow(const LimitsSection& limits, TimePoint now) const;
  bool answering() const { return pipe_ != nullptr; }

  StreamSocket socket_;
  std::unique_ptr<TlsSession> tls_;                        // null: in clear
  std::shared_ptr<const std::vector<std::string>> names_;  // of the client's certificate
  HttpLoop* const loop_;
  IpAddress peer_;
  bool by_socket_ = false;  // by a file, which is the right to
  std::optional<uint32_t> peer_uid_;
  bool read_waiting_ = false, write_waiting_ = false;
  bool read_needs_write_ = false, write_needs_read_ = false;  // of TLS
  bool closed_ = false;
  bool lingering_ = false;  // answered for good; what still comes in is thrown away
  std::chrono::milliseconds linger_most_{0};
  bool close_after_send_ = false;
  bool last_taken_ = false;  // all of the answer is in out_
  std::string in_;           // received, not yet parsed
  std::string out_;          // being sent, from sent_ on
  size_t sent_ = 0;
  std::unique_ptr<ParserBox> parser_;   // null between requests
  std::shared_ptr<ResponsePipe> pipe_;  // null while no request is being answered
  TimePoint last_progress_;             // bytes came in or went out
  TimePoint request_began_;
};

}  // namespace penstock
