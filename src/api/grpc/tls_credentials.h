// gRPC credentials whose certificates are those of TlsFiles at each handshake.
// Owns the credentials. Must not know files.
// Threads: thread-safe.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <functional>
#include <memory>

#include "access/tls_files.h"

namespace penstock {

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(std::function<TlsMaterialPtr()> current,
                                                            ClientAuth auth);

}  // namespace penstock
