// Builds without gRPC: the port cannot be opened.
#include "server/grpc_listener.h"

namespace penstock {

struct GrpcListener::Server {};

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Start(const ServerConfig& config,
                                                                  GenerationService*,
                                                                  const TlsFiles*) {
  if (config.server.public_listener.grpc.empty()) return std::unique_ptr<GrpcListener>();
  return absl::UnimplementedError("server.public.grpc: this build has no gRPC; set it to \"\"");
}
GrpcListener::GrpcListener(std::unique_ptr<Server> server) : server_(std::move(server)) {}
GrpcListener::~GrpcListener() = default;
int GrpcListener::port() const { return 0; }
void GrpcListener::UpdateHealth() {}
void GrpcListener::Stop(absl::Duration) {}

}  // namespace penstock
