#include "api/grpc/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <mutex>
#include <string>
#include <utility>

namespace penstock {
namespace {

// Adds the port by gRPC's C interface, the only one that asks for certificates at each handshake.
class SwappedCredentials final : public grpc::ServerCredentials {
 public:
  SwappedCredentials(std::function<TlsMaterialPtr()> current, ClientAuth auth)
      : current_(std::move(current)) {
    const auto asks =
        auth == ClientAuth::kRequire    ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
        : auth == ClientAuth::kOptional ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
                                        : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(asks, Fetch, this));
  }
  ~SwappedCredentials() override { grpc_server_credentials_release(credentials_); }
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& owner = *static_cast<SwappedCredentials*>(self);
    TlsMaterialPtr material = owner.current_();
    std::lock_guard lock(owner.mutex_);
    if (material == owner.used_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    grpc_ssl_pem_key_cert_pair pair = {material->key_pem.c_str(),
                                       material->certificate_pem.c_str()};
    // gRPC ends the process where there are no roots. Where clients are not asked for certificates
    // (client_ca_pem is empty then) nothing is verified by them.
    const std::string& roots =
        material->client_ca_pem.empty() ? material->certificate_pem : material->client_ca_pem;
    *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    if (*config == nullptr) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    owner.used_ = std::move(material);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  const std::function<TlsMaterialPtr()> current_;
  grpc_server_credentials* credentials_ = nullptr;
  std::mutex mutex_;
  TlsMaterialPtr used_;  // by the last handshake; guarded by mutex_
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(std::function<TlsMaterialPtr()> current,
                                                            ClientAuth auth) {
  return std::make_shared<SwappedCredentials>(std::move(current), auth);
}

}  // namespace penstock
