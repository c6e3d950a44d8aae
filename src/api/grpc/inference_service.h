// penstock.v1.Inference on the callback API.
// Owns nothing. Must not know sockets.
// Threads: thread-safe; gRPC's own threads only copy requests, the rest runs on text workers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "access/tls_files.h"
#include "api/grpc/calls.h"
#include "penstock/v1/inference.grpc.pb.h"
#include "service/generation_service.h"

namespace penstock {

class InferenceService final : public v1::Inference::CallbackService {
 public:
  /// `tls`: what clients' certificates are judged by; null: there are none.
  InferenceService(GenerationService* service, std::function<TlsMaterialPtr()> tls)
      : service_(*service), tls_(std::move(tls)) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Chat(grpc::CallbackServerContext* context,
                                 const v1::ChatRequest* request,
                                 v1::ChatResponse* response) override;
  grpc::ServerWriteReactor<v1::ChatResponse>* ChatStream(grpc::CallbackServerContext* context,
                                                         const v1::ChatRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request, v1::Model* model) override;
  /// A call that was answered; `http_status` is what the answer is over HTTP.
  void Count(int http_status) const;

 private:
  /// Finds out who calls, and takes what the metadata says of the answer's encoding.
  AccessControl::Found Admit(grpc::CallbackServerContext& context, RouteAccess access) const;
  GenerationCall NewCall(grpc::CallbackServerContext& context) const;
  CallEnd EndOf(grpc::CallbackServerContext* context) const;
  template <class Request, class Response>
  grpc::ServerUnaryReactor* AnswerAtOnce(grpc::CallbackServerContext* context,
                                         const Request& request, Response* response);
  template <class Request, class Response>
  grpc::ServerWriteReactor<Response>* AnswerInPieces(grpc::CallbackServerContext* context,
                                                     const Request& request);
  template <class Answer, class Call, class Request>
  void StartCall(grpc::CallbackServerContext& context, const std::shared_ptr<Call>& call,
                 const Request& request, bool stream);
  grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context,
                                   const absl::Status& status) const;
  grpc::ServerUnaryReactor* RunThenFinish(grpc::CallbackServerContext* context,
                                          const google::protobuf::Message& request,
                                          std::function<absl::Status(const PrincipalPtr&)> work);

  GenerationService& service_;
  const std::function<TlsMaterialPtr()> tls_;
};

}  // namespace penstock
