// The object graph: models, service, listeners, up in one order and down in the other.
// Owns everything. Must not know the command line.
// Threads: confined to the main thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "penstock/config.h"

namespace penstock {

class Server {
 public:
  /// Binds the ports, loads the models, then serves. Errors are one line; nothing has been served
  /// then.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerConfig config);
  ~Server();

  /// Not ready from now on; lets live requests finish within drain.finish, ends the rest, closes
  /// the listeners.
  void Drain();

  int http_port() const;  // 0: off
  int grpc_port() const;  // 0: off

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace penstock
