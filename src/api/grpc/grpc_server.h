// The gRPC server: penstock.v1.Inference, health of each model and of the whole, reflection.
// Owns the listening server and its service. Must not know HTTP or JSON.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/tls_files.h"
#include "service/generation_service.h"

namespace penstock {

struct GrpcServerOptions {
  std::string address;                            // host:port; port 0: any free one
  std::function<TlsMaterialPtr()> tls = nullptr;  // of each new connection; null: in clear
  ClientAuth client_auth = ClientAuth::kNone;
};

class GrpcServer {
 public:
  /// Binds and starts to answer: UNAVAILABLE where the port is taken. `service` outlives the
  /// server.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(GrpcServerOptions options,
                                                           GenerationService* service);
  ~GrpcServer();

  int port() const;
  /// What grpc.health.v1 says of the server ("") and of each model, alias and adapter, from now on:
  /// whether the service takes calls and has it. As after Start; one thread at a time.
  void UpdateHealth();
  /// Takes no new calls, lets running ones end until `grace` is over, cancels the rest. Blocks;
  /// idempotent.
  void Drain(absl::Duration grace);

 private:
  class Core;
  explicit GrpcServer(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace penstock
