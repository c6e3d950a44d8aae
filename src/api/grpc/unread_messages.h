// Calls whose message is not what the .proto says: gRPC's own answer is that there is no such method.
// Owns nothing. Must not know services' methods.
// Threads: thread-safe.
#pragma once

#include <google/protobuf/descriptor.h>
#include <grpcpp/support/server_interceptor.h>

#include <functional>
#include <memory>

namespace penstock {

/// Gives such calls of `service`, none of whose methods ends with UNIMPLEMENTED by itself, an
/// INVALID_ARGUMENT; `on_refusal` is told of each.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> RefuseUnreadMessages(
    const google::protobuf::ServiceDescriptor& service, std::function<void()> on_refusal);

}  // namespace penstock
