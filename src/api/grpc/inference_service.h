// penstock.v1.Inference on the callback API.
// Owns nothing. Must not know sockets.
// Threads: thread-safe; gRPC's own threads only copy fields, the rest runs on text workers.
#pragma once

#include <string>

#include "penstock/v1/inference.grpc.pb.h"
#include "service/generation_service.h"

namespace penstock {

class InferenceService final : public v1::Inference::CallbackService {
 public:
  explicit InferenceService(GenerationService* service) : service_(*service) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  absl::Status Authorize(const grpc::CallbackServerContext& context) const;
  GenerationCall NewCall(grpc::CallbackServerContext& context, const v1::GenerateRequest& request,
                         bool stream) const;
  void Count(int http_status) const;
  template <class Call, class Answer>
  void StartCall(grpc::CallbackServerContext& context, const std::shared_ptr<Call>& call,
                 GenerationCall parsed);
  grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context,
                                   const absl::Status& status) const;

  GenerationService& service_;
};

}  // namespace penstock
