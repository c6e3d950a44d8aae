#include "api/grpc/inference_service.h"

#include <algorithm>
#include <utility>

#include "api/grpc/calls.h"
#include "api/grpc/grpc_answer.h"
#include "api/grpc/proto_codec.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"
#include "service/ids.h"
#include "service/sampling.h"

namespace penstock {
namespace {

std::string_view Metadata(const grpc::CallbackServerContext& context, const char* name) {
  const auto it = context.client_metadata().find(name);
  return it == context.client_metadata().end()
             ? std::string_view()
             : std::string_view(it->second.data(), it->second.size());
}

// The call's own deadline, as milliseconds from now; none: as the request said.
void TakeDeadline(const grpc::CallbackServerContext& context, GenerationCall& call) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::system_clock::now());
  const int64_t left_ms = std::max<int64_t>(1, left.count());
  constexpr int64_t kDayMs = 86'400'000;
  if (!call.timeout_ms) {
    call.timeout_ms = std::min(left_ms, kDayMs);
  } else if (*call.timeout_ms > left_ms) {
    call.timeout_ms = left_ms;  // a bad value stays for the range check
  }
}

}  // namespace

absl::Status InferenceService::Authorize(const grpc::CallbackServerContext& context) const {
  const std::string_view credential = Metadata(context, "authorization");
  return service_.Authorize(credential.empty() ? Metadata(context, "x-api-key") : credential);
}

void InferenceService::Count(int http_status) const {
  if (service_.catalogue() != nullptr) service_.catalogue()->CountRequest(http_status);
}

GenerationCall InferenceService::NewCall(grpc::CallbackServerContext& context,
                                         const v1::GenerateRequest& request, bool stream) const {
  GenerationCall call;
  call.request_id = CleanRequestId(Metadata(context, "x-request-id"));
  if (call.request_id.empty()) call.request_id = MakeRequestId();
  call.protocol = "grpc";
  call.arrival = service_.clock().Now();
  if (stream) call.stream = true;
  ReadCall(request, call);
  TakeDeadline(context, call);
  context.AddInitialMetadata("x-request-id", call.request_id);
  return call;
}

template <class Call, class Answer>
void InferenceService::StartCall(grpc::CallbackServerContext& context,
                                 const std::shared_ptr<Call>& call, GenerationCall parsed) {
  const absl::Status allowed = Authorize(context);
  if (!allowed.ok()) return call->Fail(ToCallError(allowed));
  const GrpcShape shape = {parsed.return_token_ids.value_or(false), NumLogprobs(parsed) >= 0};
  auto shared = std::make_shared<GenerationCall>(std::move(parsed));
  // A cancelled call may be over, and this object gone, before a worker comes to it: only the
  // service outlives both.
  const bool queued = service_.loop().TryCall([service = &service_, call, shape, shared] {
    absl::StatusOr<std::shared_ptr<ResponseStream>> stream =
        service->Start(*shared, std::make_shared<Answer>(call, shape));
    if (stream.ok()) return call->Attach(*std::move(stream));
    service->RecordRefusal(*shared, stream.status());
    call->Fail(ToCallError(stream.status()));
  });
  if (!queued)
    call->Fail(
        {absl::StatusCode::kResourceExhausted, "too many requests are waiting to be read", ""});
}

grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const v1::GenerateRequest* request,
                                                     v1::GenerateResponse* response) {
  const std::shared_ptr<UnaryCall> call =
      UnaryCall::Make({context, [this](int status) { Count(status); }}, response);
  StartCall<UnaryCall, UnaryAnswer>(*context, call, NewCall(*context, *request, false));
  return call.get();
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::GenerateStream(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  const std::shared_ptr<StreamCall> call = StreamCall::Make(
      {context, [this](int status) { Count(status); }},
      static_cast<size_t>(service_.limits().stream_buffer.value), service_.limits().write_stall);
  StartCall<StreamCall, StreamAnswer>(*context, call, NewCall(*context, *request, true));
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Finish(grpc::CallbackServerContext* context,
                                                   const absl::Status& status) const {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CallEnd end = {context, [this](int code) { Count(code); }};
  reactor->Finish(status.ok() ? end.Ok() : end.Make(ToCallError(status)));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*,
                                                       v1::ListModelsResponse* response) {
  const absl::Status allowed = Authorize(*context);
  if (!allowed.ok()) return Finish(context, allowed);
  for (const auto& model : service_.models().List()) {
    v1::Model* row = response->add_models();
    row->set_id(model->name);
    for (const std::string& alias : model->aliases) row->add_aliases(alias);
    row->set_created(model->created);
    row->set_max_model_len(model->max_context);
  }
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  if (absl::Status allowed = Authorize(*context); !allowed.ok()) return Finish(context, allowed);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CallEnd end = {context, [this](int code) { Count(code); }};
  // The default reactor does not react to cancels, so that `request` and `response` stay until
  // Finish.
  const bool queued = service_.loop().TryCall([this, reactor, end, request, response] {
    const absl::Status status = [&]() -> absl::Status {
      GenerationCall call;
      call.prompts.push_back({request->text(), {}, false});
      if (request->has_add_special_tokens())
        call.add_special_tokens = request->add_special_tokens();
      const std::optional<std::string> name =
          request->has_model() ? std::optional(request->model()) : std::nullopt;
      ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model, service_.FindModel(name));
      response->set_max_model_len(model->max_context);
      if (request->text().empty()) return absl::OkStatus();
      ASSIGN_OR_RETURN(const std::vector<TokenId> ids, service_.Tokenize(call, *model));
      response->mutable_ids()->Assign(ids.begin(), ids.end());
      return absl::OkStatus();
    }();
    reactor->Finish(status.ok() ? end.Ok() : end.Make(ToCallError(status)));
  });
  if (!queued)
    reactor->Finish(
        end.Make({absl::StatusCode::kResourceExhausted, "too many requests are waiting", ""}));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  if (absl::Status allowed = Authorize(*context); !allowed.ok()) return Finish(context, allowed);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CallEnd end = {context, [this](int code) { Count(code); }};
  const bool queued = service_.loop().TryCall([this, reactor, end, request, response] {
    const absl::Status status = [&]() -> absl::Status {
      const std::optional<std::string> name =
          request->has_model() ? std::optional(request->model()) : std::nullopt;
      ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model, service_.FindModel(name));
      ASSIGN_OR_RETURN(std::string text,
                       service_.Detokenize({request->ids().begin(), request->ids().end()}, *model));
      response->set_text(std::move(text));
      return absl::OkStatus();
    }();
    reactor->Finish(status.ok() ? end.Ok() : end.Make(ToCallError(status)));
  });
  if (!queued)
    reactor->Finish(
        end.Make({absl::StatusCode::kResourceExhausted, "too many requests are waiting", ""}));
  return reactor;
}

}  // namespace penstock
