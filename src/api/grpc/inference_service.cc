#include "api/grpc/inference_service.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "access/client_certificates.h"
#include "api/grpc/grpc_answer.h"
#include "api/grpc/proto_codec.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"
#include "service/ids.h"
#include "service/sampling.h"
#include "service/trace.h"

namespace penstock {
namespace {

constexpr RouteAccess kInference = RouteAccess::Needs(Permission::kInfer);  // of all methods

std::string_view Metadata(const grpc::CallbackServerContext& context, const char* name) {
  const auto it = context.client_metadata().find(name);
  return it == context.client_metadata().end()
             ? std::string_view()
             : std::string_view(it->second.data(), it->second.size());
}

using Deadline = std::chrono::system_clock::time_point;

// The call's own deadline, as milliseconds from now; none: as the request said.
void TakeDeadline(Deadline deadline, GenerationCall& call) {
  if (deadline == Deadline::max()) return;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::system_clock::now());
  const int64_t left_ms = std::max<int64_t>(1, left.count());
  constexpr int64_t kDayMs = 86'400'000;
  if (!call.timeout_ms) {
    call.timeout_ms = std::min(left_ms, kDayMs);
  } else if (*call.timeout_ms > left_ms && *call.timeout_ms <= kDayMs) {
    call.timeout_ms = left_ms;  // a bad value stays for the range check
  }
}

absl::Status ChooseEncoding(std::string_view name, grpc::CallbackServerContext& context) {
  if (name.empty() || name == "identity") return absl::OkStatus();
  if (name == "gzip") {
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  } else if (name == "deflate") {
    context.set_compression_algorithm(GRPC_COMPRESS_DEFLATE);
  } else {
    return InvalidField("x-response-encoding",
                        "x-response-encoding must be gzip, deflate or identity");
  }
  return absl::OkStatus();
}

template <class Request>
std::optional<std::string> ModelName(const Request& request) {
  return request.has_model() ? std::optional(request.model()) : std::nullopt;
}

void WriteModel(const ServedModel& model, v1::Model& row) {
  row.set_id(model.name);
  for (const std::string& alias : model.aliases) row.add_aliases(alias);
  row.set_created(model.created);
  row.set_max_model_len(model.max_context);
  row.set_parent(model.parent);
}

/// gRPC's own limit is fixed when the server starts.
absl::Status CheckSize(const GenerationService& service, const google::protobuf::Message& request) {
  const auto most = static_cast<size_t>(service.config().Get()->limits.max_body.value);
  const size_t size = request.ByteSizeLong();
  if (size <= most) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the message has ", size, " bytes, limits.max_body is ", most));
}

ProtoShape ShapeOf(const GenerationCall& call) {
  ProtoShape shape;
  shape.token_ids = call.return_token_ids.value_or(false);
  shape.num_logprobs = NumLogprobs(call);
  shape.logprobs = shape.num_logprobs >= 0;
  shape.echo = call.echo.value_or(false);
  shape.prompt_logprobs = static_cast<int32_t>(call.num_prompt_logprobs.value_or(-1));
  return shape;
}

/// gRPC asks no revocation lists in its handshake: each call is judged by those of now.
bool AcceptsPeer(const TlsMaterial& now, const grpc::AuthContext& connection) {
  if (now.clients == nullptr) return true;
  const auto pem = [&](const char* property) {
    const std::vector<grpc::string_ref> values = connection.FindPropertyValues(property);
    return values.empty() ? std::string_view()
                          : std::string_view(values.front().data(), values.front().size());
  };
  return now.clients->Accepts(pem(GRPC_X509_PEM_CERT_PROPERTY_NAME),
                              pem(GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME));
}

CallError TooManyWait() {
  return {absl::StatusCode::kResourceExhausted, "too many requests are waiting to be read", ""};
}

}  // namespace

AccessControl::Found InferenceService::Admit(grpc::CallbackServerContext& context,
                                             RouteAccess access) const {
  Caller caller;
  caller.credential = Metadata(context, "authorization");
  if (caller.credential.empty()) caller.credential = Metadata(context, "x-api-key");
  caller.address = IpAddress::ParsePeer(context.peer()).value_or(IpAddress{});
  caller.local = caller.address.loopback();
  std::vector<std::string> names;
  const auto connection = context.auth_context();
  if (connection != nullptr && tls_)
    caller.certificate_refused = !AcceptsPeer(*tls_(), *connection);
  if (connection != nullptr && connection->IsPeerAuthenticated()) {
    for (const char* kind : {GRPC_PEER_URI_PROPERTY_NAME, GRPC_PEER_DNS_PROPERTY_NAME}) {
      for (const grpc::string_ref& name : connection->FindPropertyValues(kind))
        names.emplace_back(name.data(), name.size());
    }
  }
  caller.names = &names;
  ASSIGN_OR_RETURN(PrincipalPtr principal, service_.access().Admit(caller, access, ""));
  RETURN_IF_ERROR(ChooseEncoding(Metadata(context, "x-response-encoding"), context));
  return principal;
}

void InferenceService::Count(int http_status) const {
  if (service_.catalogue() != nullptr) service_.catalogue()->CountRequest(http_status);
}

CallEnd InferenceService::EndOf(grpc::CallbackServerContext* context) const {
  return {context, [this](int status) { Count(status); }};
}

GenerationCall InferenceService::NewCall(grpc::CallbackServerContext& context) const {
  GenerationCall call;
  call.request_id = CleanRequestId(Metadata(context, "x-request-id"));
  if (call.request_id.empty()) call.request_id = MakeRequestId();
  const TraceIds trace = ContinueTrace(Metadata(context, "traceparent"),
                                       SampledShare(service_.config().Get()->observe));
  call.trace_id = trace.trace_id;
  call.span_id = trace.span_id;
  call.parent_id = trace.parent_id;
  call.trace_sampled = trace.sampled();
  call.protocol = "grpc";
  call.arrival = service_.clock().Now();
  context.AddInitialMetadata("x-request-id", call.request_id);
  context.AddInitialMetadata("traceparent", Traceparent(trace));
  return call;
}

template <class Answer, class Call, class Request>
void InferenceService::StartCall(grpc::CallbackServerContext& context,
                                 const std::shared_ptr<Call>& call, const Request& request,
                                 bool stream) {
  auto parsed = std::make_shared<GenerationCall>(NewCall(context));
  if (stream) parsed->stream = true;
  AccessControl::Found principal = Admit(context, kInference);
  if (!principal.ok()) return call->Fail(ToCallError(principal.status()));
  parsed->principal = *std::move(principal);
  const absl::Status size = CheckSize(service_, request);
  if (!size.ok()) return call->Fail(ToCallError(size));
  // A cancelled call may be over, and this object, the context and the request gone, before a
  // worker comes to it: only the service outlives all of them.
  auto copy = std::make_shared<const Request>(request);
  const bool queued = service_.loop().TryCall(
      [service = &service_, call, copy, parsed, deadline = context.deadline()] {
        absl::Status status = ReadCall(*copy, *parsed);
        TakeDeadline(deadline, *parsed);
        if (status.ok()) {
          const ProtoShape shape = ShapeOf(*parsed);
          absl::StatusOr<std::shared_ptr<RunningCall>> started =
              service->Start(*parsed, std::make_shared<Answer>(call, shape));
          if (started.ok()) return call->Attach(*std::move(started));
          status = started.status();
        }
        service->RecordRefusal(*parsed, status);
        call->Fail(ToCallError(status));
      });
  if (!queued) call->Fail(TooManyWait());
}

template <class Request, class Response>
grpc::ServerUnaryReactor* InferenceService::AnswerAtOnce(grpc::CallbackServerContext* context,
                                                         const Request& request,
                                                         Response* response) {
  const auto call = UnaryCall<Response>::Make(EndOf(context), response);
  StartCall<UnaryAnswer<Response>>(*context, call, request, false);
  return call.get();
}

template <class Request, class Response>
grpc::ServerWriteReactor<Response>* InferenceService::AnswerInPieces(
    grpc::CallbackServerContext* context, const Request& request) {
  const std::shared_ptr<const ServerConfig> config = service_.config().Get();
  const LimitsSection& limits = config->limits;
  const auto call = StreamCall<Response>::Make(
      EndOf(context), static_cast<size_t>(limits.stream_buffer.value), limits.write_stall);
  StartCall<StreamAnswer<Response>>(*context, call, request, true);
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const v1::GenerateRequest* request,
                                                     v1::GenerateResponse* response) {
  return AnswerAtOnce(context, *request, response);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::GenerateStream(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return AnswerInPieces<v1::GenerateRequest, v1::GenerateResponse>(context, *request);
}

grpc::ServerUnaryReactor* InferenceService::Chat(grpc::CallbackServerContext* context,
                                                 const v1::ChatRequest* request,
                                                 v1::ChatResponse* response) {
  return AnswerAtOnce(context, *request, response);
}

grpc::ServerWriteReactor<v1::ChatResponse>* InferenceService::ChatStream(
    grpc::CallbackServerContext* context, const v1::ChatRequest* request) {
  return AnswerInPieces<v1::ChatRequest, v1::ChatResponse>(context, *request);
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context,
                                                  const v1::EmbedRequest* request,
                                                  v1::EmbedResponse* response) {
  const auto call = UnaryCall<v1::EmbedResponse>::Make(EndOf(context), response);
  auto parsed = std::make_shared<EmbeddingCall>();
  parsed->base = NewCall(*context);
  AccessControl::Found principal = Admit(*context, kInference);
  if (!principal.ok()) {
    call->Fail(ToCallError(principal.status()));
    return call.get();
  }
  parsed->base.principal = *std::move(principal);
  if (const absl::Status size = CheckSize(service_, *request); !size.ok()) {
    call->Fail(ToCallError(size));
    return call.get();
  }
  auto copy = std::make_shared<const v1::EmbedRequest>(*request);
  const bool queued = service_.loop().TryCall([service = &service_, call, copy, parsed,
                                               deadline = context->deadline()] {
    absl::Status status = ReadCall(*copy, *parsed);
    TakeDeadline(deadline, parsed->base);
    if (status.ok()) {
      const auto stream = service->StartEmbedding(*parsed, [call](const EmbeddingResult& result) {
        if (result.error) return call->Fail(*result.error);
        v1::EmbedResponse all;
        WriteEmbeddings(result, all);
        call->Answer(std::move(all));
      });
      if (stream.ok()) return call->Attach(*stream);
      status = stream.status();
    }
    service->RecordRefusal(parsed->base, status);
    call->Fail(ToCallError(status));
  });
  if (!queued) call->Fail(TooManyWait());
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Finish(grpc::CallbackServerContext* context,
                                                   const absl::Status& status) const {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CallEnd end = EndOf(context);
  reactor->Finish(status.ok() ? end.Ok() : end.Make(ToCallError(status)));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*,
                                                       v1::ListModelsResponse* response) {
  const AccessControl::Found principal = Admit(*context, kInference);
  if (!principal.ok()) return Finish(context, principal.status());
  for (const auto& model : service_.models().List()) {
    if (service_.MayUse(*principal, *model, model->name))
      WriteModel(*model, *response->add_models());
  }
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetModelRequest* request,
                                                     v1::Model* row) {
  const AccessControl::Found principal = Admit(*context, kInference);
  if (!principal.ok()) return Finish(context, principal.status());
  const auto model = service_.FindModel(ModelName(*request), *principal);
  if (!model.ok()) return Finish(context, model.status());
  for (const auto& listed : service_.models().List()) {  // with all of its aliases
    if (listed->name == (*model)->name) WriteModel(*listed, *row);
  }
  return Finish(context, absl::OkStatus());
}

// Runs `work` on a text worker. The default reactor does not react to cancels, so that request and
// response stay until Finish.
grpc::ServerUnaryReactor* InferenceService::RunThenFinish(
    grpc::CallbackServerContext* context, const google::protobuf::Message& request,
    std::function<absl::Status(const PrincipalPtr&)> work) {
  const AccessControl::Found principal = Admit(*context, kInference);
  if (!principal.ok()) return Finish(context, principal.status());
  if (const absl::Status size = CheckSize(service_, request); !size.ok())
    return Finish(context, size);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CallEnd end = EndOf(context);
  const bool queued =
      service_.loop().TryCall([reactor, end, caller = *principal, work = std::move(work)] {
        const absl::Status status = work(caller);
        reactor->Finish(status.ok() ? end.Ok() : end.Make(ToCallError(status)));
      });
  if (!queued) reactor->Finish(end.Make(TooManyWait()));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  return RunThenFinish(
      context, *request, [this, request, response](const PrincipalPtr& caller) -> absl::Status {
        GenerationCall call;
        RETURN_IF_ERROR(ReadCall(*request, call));
        ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                         service_.FindToServe(call.model, caller));
        response->set_max_model_len(model->max_context);
        if (!call.chat && request->text().empty()) return absl::OkStatus();
        ASSIGN_OR_RETURN(const std::vector<TokenId> ids, service_.Tokenize(call, *model));
        response->mutable_ids()->Assign(ids.begin(), ids.end());
        if (!request->return_token_strs()) return absl::OkStatus();
        for (const TokenId id : ids)
          response->add_token_strs(RepairUtf8(model->tokenizer->Piece(id)));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  return RunThenFinish(
      context, *request, [this, request, response](const PrincipalPtr& caller) -> absl::Status {
        ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                         service_.FindToServe(ModelName(*request), caller));
        absl::StatusOr<std::string> text =
            service_.Detokenize({request->ids().begin(), request->ids().end()}, *model, "ids");
        RETURN_IF_ERROR(text.status());
        response->set_text(*std::move(text));
        return absl::OkStatus();
      });
}

}  // namespace penstock
