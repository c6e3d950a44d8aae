#include "server/grpc_listener.h"

#include "api/grpc/grpc_server.h"
#include "base/status_macros.h"

namespace penstock {

struct GrpcListener::Server {
  std::unique_ptr<GrpcServer> grpc;
};

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Start(const ServerConfig& config,
                                                                  GenerationService* service,
                                                                  const TlsFiles* tls) {
  const std::string& address = config.server.public_listener.grpc;
  if (address.empty()) return std::unique_ptr<GrpcListener>();
  GrpcServerOptions options;
  options.address = address;
  if (tls != nullptr) {
    options.tls = [tls] { return tls->current(); };
    options.client_auth = ClientAuthOf(config.tls);
  }
  auto server = std::make_unique<Server>();
  ASSIGN_OR_RETURN(server->grpc, GrpcServer::Start(std::move(options), service));
  return std::unique_ptr<GrpcListener>(new GrpcListener(std::move(server)));
}

GrpcListener::GrpcListener(std::unique_ptr<Server> server) : server_(std::move(server)) {}
GrpcListener::~GrpcListener() = default;
int GrpcListener::port() const { return server_->grpc->port(); }
void GrpcListener::UpdateHealth() { server_->grpc->UpdateHealth(); }
void GrpcListener::Stop(absl::Duration grace) { server_->grpc->Drain(grace); }

}  // namespace penstock
