// The object graph: models, service, listeners, up in one order and down in the other.
// Owns everything. Must not know the command line.
// Threads: confined to the main thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "penstock/config.h"
#include "server/config_reload.h"

namespace penstock {

class Server {
 public:
  /// Binds the ports, loads the models, then serves. Errors are one line; nothing has been served
  /// then. `read_again` is for Reload.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerConfig config,
                                                       ReadConfigFn read_again);
  ~Server();

  /// Takes what changed in the configuration; `cause` is for the log. See ConfigReload.
  absl::Status Reload(const std::string& cause);
  std::shared_ptr<const ServerConfig> config() const;

  /// Not ready from now on, but still taking requests.
  void Announce();
  /// Takes no more; lets live requests finish within drain.finish, ends the rest, closes the
  /// listeners.
  void Drain();
  /// OK while every engine works. Else not ready from now on, and why: the process should end.
  absl::Status CheckEngines();

  int http_port() const;   // 0: off
  int grpc_port() const;   // 0: off
  int agent_port() const;  // 0: off

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace penstock
