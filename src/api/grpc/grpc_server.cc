#include "api/grpc/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "api/grpc/inference_service.h"
#include "api/grpc/tls_credentials.h"
#include "api/grpc/unread_messages.h"
#include "base/status_macros.h"

namespace penstock {

// A reload may raise limits.max_body so many times; the limit itself is held by each call.
constexpr int64_t kRoomToRaise = 4;

class GrpcServer::Core {
 public:
  Core(const GrpcServerOptions& options, GenerationService* service)
      : service_(*service), inference_(service, options.tls) {}
  ~Core() { Drain(absl::ZeroDuration()); }

  absl::Status Start(const GrpcServerOptions& options) {
    static std::once_flag once;
    std::call_once(once, [] {
      gpr_set_log_function([](gpr_log_func_args*) {});  // what matters comes back as a Status
      grpc::EnableDefaultHealthCheckService(true);
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    });
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT,
                               0);  // a second server on the port is an error
    // A machine that is gone says no goodbye: after a minute of silence it is asked for no more, as
    // over HTTP. Clients may ask the same of the server, with and without a call.
    constexpr int kMinute = 60'000;  // ms
    for (const auto& [name, value] :
         {std::pair(GRPC_ARG_KEEPALIVE_TIME_MS, kMinute / 2),
          {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kMinute / 2},
          {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
          {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},  // of this server's: as many as it takes
          {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinute / 6}})
      builder.AddChannelArgument(name, value);
    // gRPC inflates a message before it looks at its size: a small one could take all memory.
    // Answers may be compressed all the same.
    for (const auto encoding : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE})
      builder.SetCompressionAlgorithmSupportStatus(encoding, false);
    constexpr int64_t kLargest = std::numeric_limits<int>::max();
    builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<int64_t>(
        kLargest, kRoomToRaise * service_.config().Get()->limits.max_body.value)));
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> watchers;
    watchers.push_back(RefuseUnreadMessages(
        *v1::GenerateRequest::descriptor()->file()->FindServiceByName("Inference"),
        [this] { inference_.Count(400); }));
    builder.experimental().SetInterceptorCreators(std::move(watchers));
    credentials_ = options.tls ? MakeTlsCredentials(options.tls, options.client_auth)
                               : grpc::InsecureServerCredentials();
    builder.AddListeningPort(options.address, credentials_, &port_);
    builder.RegisterService(&inference_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", options.address,
                       " for gRPC: the port is in use, or the address is not this machine's"));
    }
    UpdateHealth();
    return absl::OkStatus();
  }

  void UpdateHealth() {
    if (drained_) return;
    const bool serving = service_.phase() == ServingPhase::kServing;
    std::map<std::string, bool> health = {{"", serving}};
    for (const auto& model : service_.models().List()) {
      health[model->name] = serving;
      for (const std::string& alias : model->aliases) health[alias] = serving;
    }
    for (const auto& [name, was] : health_) health.try_emplace(name, false);  // not there any more
    for (const auto& [name, is] : health) {
      const auto was = health_.find(name);
      if (was == health_.end() || was->second != is)
        server_->GetHealthCheckService()->SetServingStatus(name, is);
    }
    health_ = std::move(health);
  }

  void Drain(absl::Duration grace) {
    if (server_ == nullptr || std::exchange(drained_, true)) return;
    server_->GetHealthCheckService()->SetServingStatus(false);
    server_->Shutdown(std::chrono::system_clock::now() +
                      absl::ToChronoMilliseconds(std::min(grace, absl::Hours(24))));
    server_->Wait();
  }

  int port() const { return port_; }

 private:
  GenerationService& service_;
  InferenceService inference_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;  // asked at each handshake
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::map<std::string, bool> health_;  // as the health service has it
  bool drained_ = false;
};

GrpcServer::GrpcServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
GrpcServer::~GrpcServer() = default;

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(GrpcServerOptions options,
                                                              GenerationService* service) {
  auto core = std::make_unique<Core>(options, service);
  RETURN_IF_ERROR(core->Start(options));
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(core)));
}

int GrpcServer::port() const { return core_->port(); }
void GrpcServer::UpdateHealth() { core_->UpdateHealth(); }
void GrpcServer::Drain(absl::Duration grace) { core_->Drain(grace); }

}  // namespace penstock
