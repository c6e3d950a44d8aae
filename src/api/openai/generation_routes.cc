#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/content_encoding.h"
#include "api/http/limit_headers.h"
#include "api/openai/call_codec.h"
#include "api/openai/http_answer.h"
#include "api/openai/routes.h"
#include "base/cpu_parts.h"
#include "base/give_back.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/ids.h"
#include "service/sampling.h"
#include "service/wire_json.h"

namespace penstock {
namespace {

AnswerShape ShapeOf(const GenerationCall& call) {
  AnswerShape shape;
  shape.chat = call.chat;
  shape.stream = call.stream.value_or(false);
  const int32_t logprobs = NumLogprobs(call);
  shape.logprobs = logprobs >= 0;
  shape.num_logprobs = logprobs;
  shape.echo = call.echo.value_or(false);
  shape.prompt_logprobs = call.num_prompt_logprobs.value_or(-1);
  shape.include_usage = call.include_usage.value_or(false);
  shape.continuous_usage = call.continuous_usage_stats.value_or(false);
  shape.return_token_ids = call.return_token_ids.value_or(false);
  shape.skip_special = call.skip_special_tokens.value_or(true);
  return shape;
}

absl::Status ReadBody(HttpRequest& request, Surface surface, GenerationCall& call) {
  const CpuPart part(FrontPart::kJson);
  ASSIGN_OR_RETURN(const WireDocument body, WireDocument::Parse(request.body));
  GiveBack(request.body);
  RETURN_IF_ERROR(ReadCall(body.root(), surface, call));
  TakeRequestId(call);
  return absl::OkStatus();
}

void Generate(GenerationService& service, Surface surface, std::shared_ptr<HttpExchange> exchange) {
  HttpRequest& request = exchange->request();
  GenerationCall call;
  BeginCall(request, call);
  absl::Status status = ReadBody(request, surface, call);
  if (status.ok()) {
    auto answer = std::make_shared<HttpAnswer>(exchange, ShapeOf(call));
    status = StartAnswer(service, call, std::move(answer), *exchange);
    if (status.ok()) return;
  }
  service.RecordRefusal(call, status);
  RespondStatus(*exchange, status);
}

}  // namespace

void BeginCall(const HttpRequest& request, GenerationCall& call) {
  call.request_id = request.request_id;
  call.trace_id = request.trace.trace_id;
  call.span_id = request.trace.span_id;
  call.parent_id = request.trace.parent_id;
  call.trace_sampled = request.trace.sampled();
  call.protocol = "http";
  call.principal = request.principal;
  call.arrival = request.arrival;
}

void RecordAct(const GenerationService& service, const HttpRequest& request,
               std::string_view action, std::string object, const absl::Status& outcome,
               std::string reason) {
  if (const auto& tell = service.on_act()) {
    tell({action, std::move(object), outcome, request.principal, request.peer_uid, request.peer,
          std::move(reason)});
  }
}

void TakeRequestId(GenerationCall& call) {
  if (!call.client_request_id) return;
  const std::string id = CleanRequestId(*call.client_request_id);
  if (!id.empty()) call.request_id = id;
}

absl::Status StartAnswer(GenerationService& service, const GenerationCall& call,
                         std::shared_ptr<ResponseSink> answer, HttpExchange& exchange) {
  ASSIGN_OR_RETURN(const std::shared_ptr<RunningCall> stream,
                   service.Start(call, std::move(answer)));
  exchange.Watch([stream](CancelReason reason) { stream->Cancel(reason); },
                 [stream] { stream->Resume(); });
  return absl::OkStatus();
}

void RespondStatus(HttpExchange& exchange, const absl::Status& status) {
  HttpHeaders headers;
  if (const auto seconds = RetryAfterOf(status))
    headers.emplace_back("Retry-After", absl::StrCat(*seconds));
  AddLimitHeaders(exchange, LimitsOf(status));
  RespondError(exchange, HttpStatus(status.code()), Message(status), FieldOf(status),
               std::move(headers));
}

Endpoint OnTextWorker(GenerationService& service, Endpoint work) {
  auto shared = std::make_shared<const Endpoint>(std::move(work));
  return [&service, shared](std::shared_ptr<HttpExchange> exchange) {
    HttpExchange* waiting = exchange.get();
    const auto run = [&service, shared, exchange] {
      const auto max_bytes = static_cast<size_t>(service.config().Get()->limits.max_body.value);
      if (const auto refusal = DecodeBody(exchange->request(), max_bytes))
        return RespondError(*exchange, refusal->status, refusal->message);
      (*shared)(exchange);
    };
    if (service.loop().TryCall(run)) return;
    RespondError(*waiting, 429, "too many requests are waiting to be read");
  };
}

void AddGenerationRoutes(Router& router, GenerationService& service, const Answers& answers) {
  for (const auto& [path, surface] :
       {std::pair{"/v1/completions", kCompletions}, {"/v1/chat/completions", kChat}}) {
    const auto generate = [&service, surface = surface](std::shared_ptr<HttpExchange> exchange) {
      Generate(service, surface, std::move(exchange));
    };
    router.Add("POST", path, RouteAccess::Needs(Permission::kInfer),
               OnTextWorker(service, IdempotencyStore::Wrap(answers, generate)));
  }
}

void AddOpenAiRoutes(Router& router, GenerationService& service, const Answers& answers) {
  AddGenerationRoutes(router, service, answers);
  AddResponseRoutes(router, service, answers);
  AddEmbeddingRoutes(router, service, answers);
  AddTokenRoutes(router, service);
  AddAdapterRoutes(router, service, AdapterCaller::kClient);
  AddStatusRoutes(router, service);
  if (service.config().Get()->server.page) AddStartPage(router);
}

}  // namespace penstock
