// The gRPC front end as the object graph sees it, in builds with and without gRPC.
// Owns the gRPC server. Must not know its methods.
// Threads: confined to the main thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/tls_files.h"
#include "penstock/config.h"
#include "service/generation_service.h"

namespace penstock {

class GrpcListener {
 public:
  /// Null where server.public.grpc is empty. `tls`: null in clear. UNAVAILABLE where the port is taken, UNIMPLEMENTED
  /// where this build has no gRPC.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Start(const ServerConfig& config,
                                                             GenerationService* service,
                                                             const TlsFiles* tls);
  ~GrpcListener();
  int port() const;
  /// As GrpcServer's.
  void UpdateHealth();
  /// Lets running calls end for `grace`, then ends them.
  void Stop(absl::Duration grace);

 private:
  struct Server;
  explicit GrpcListener(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace penstock
