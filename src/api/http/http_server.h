// The HTTP/1.1 server: accepts connections, reads requests, hands them to a router, writes answers.
// Owns its I/O threads and connections. Must not know routes, JSON or models.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/tls_files.h"
#include "api/http/router.h"
#include "base/clock.h"
#include "base/cpu_parts.h"
#include "base/live.h"
#include "penstock/config.h"

namespace penstock {

struct HttpServerOptions {
  std::string address;  // host:port, [v6]:port (port 0: any free one) or unix:/path
  int num_threads = 1;
  const Live<ServerConfig>* config = nullptr;  // limits and origins, as they are now
  bool cross_origin = false;                   // pages of server.cors_origins may read answers
  bool check_host = false;                     // whether Host is a name of this server
  std::function<TlsMaterialPtr()> tls;         // of each new connection; null: in clear
  CpuParts* cpu = nullptr;       // learns what the I/O threads spend; outlives the server
  const Clock* clock = nullptr;  // stamps the arrival of requests: the engines' own
  std::function<void(int code)>
      on_answer;  // each answered request, any thread; 499: the client went first
};

class HttpServer {
 public:
  /// Takes the port: UNAVAILABLE where another listens on it, INVALID_ARGUMENT for a bad address.
  /// Clients are refused until Serve.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Bind(HttpServerOptions options);
  ~HttpServer();

  /// The port that is really bound.
  int port() const;
  /// Opens the port and starts to answer; `router` outlives the server. UNAVAILABLE where another
  /// server has opened the port since Bind.
  absl::Status Serve(const Router* router);
  /// Who answers requests from now on; outlives the server.
  void SetRouter(const Router* router);
  /// Says `line` to each connection to `address`, until Drain. Before Serve.
  absl::Status AddLineListener(const std::string& address, std::function<std::string()> line);
  int line_port() const;  // of AddLineListener; 0: none
  /// Each answer from now on ends its connection; new ones are still accepted.
  void CloseAfterAnswers();
  /// Accepts no more, closes idle connections, lets running answers end (each then closes its
  /// connection) until `grace` is over; cuts off the rest. Blocks; idempotent.
  void Drain(absl::Duration grace);
  int num_connections() const;

 private:
  class Core;
  explicit HttpServer(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace penstock
