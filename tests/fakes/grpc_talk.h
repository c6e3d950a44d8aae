// Talk behind a real gRPC server on a free loopback port, and a client of it.
// Owns both. Must not know what is tested.
// Threads: for one test.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "api/grpc/grpc_server.h"
#include "base/status_macros.h"
#include "fakes/talk_fixture.h"
#include "penstock/v1/inference.grpc.pb.h"

namespace penstock {

struct GrpcTalk : Talk {
  explicit GrpcTalk(FakeEngine::Script script = FakeEngine::Repeat, LimitsSection limits = {},
                    std::vector<std::string> keys = {}, bool start_engine = true)
      : Talk(std::move(script), limits, std::move(keys)) {
    auto started = GrpcServer::Start({"127.0.0.1:0"}, service.get());
    EXPECT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
    // A fixed window: else the client's library reads ahead for a reader that does not read, more
    // and more.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
    stub = v1::Inference::NewStub(
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server->port()),
                                  grpc::InsecureChannelCredentials(), arguments));
    if (start_engine) engine.Start();
  }
  ~GrpcTalk() { server->Drain(absl::ZeroDuration()); }

  std::unique_ptr<GrpcServer> server;
  std::unique_ptr<v1::Inference::Stub> stub;
};

/// Makes `call(context)`, which ends with its deadline, with one of 300 ms, of twice that and so on
/// until one has reached the engine: a busy machine takes longer than any. What that call had.
template <typename Call>
absl::Duration WithDeadlines(const FakeEngine& engine, Call call) {
  for (auto timeout = std::chrono::milliseconds(300);; timeout *= 2) {
    CHECK(timeout < std::chrono::minutes(4));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    call(context);
    if (!engine.submitted().empty()) return absl::FromChrono(timeout);
  }
}

/// The field that an ended call's trailing metadata names; "": none.
inline std::string FieldAtFault(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto it = trailers.find("x-error-param");
  return it == trailers.end() ? "" : std::string(it->second.data(), it->second.size());
}

}  // namespace penstock
