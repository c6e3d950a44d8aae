#include <utility>

#include "api/openai/embedding_codec.h"
#include "api/openai/routes.h"
#include "base/cpu_parts.h"
#include "base/give_back.h"
#include "base/status_macros.h"
#include "service/call_error.h"

namespace penstock {
namespace {

struct EmbeddingRoute {
  const char* path;
  absl::Status (*read)(const WireValue&, EmbeddingCall&, EmbeddingShape&);
  std::string (*write)(const EmbeddingShape&, const EmbeddingResult&);
};

constexpr EmbeddingRoute kEmbeddingRoutes[] = {
    {"/v1/embeddings", ReadEmbeddingCall, EmbeddingBody},
    {"/v1/rerank", ReadRerankCall, RerankBody},
    {"/rerank", ReadRerankCall, RerankBody},
    {"/v2/rerank", ReadRerankCall, RerankBody},
};

absl::Status ReadEmbeddingBody(HttpRequest& request, const EmbeddingRoute& route,
                               EmbeddingCall& call, EmbeddingShape& shape) {
  const CpuPart part(FrontPart::kJson);
  ASSIGN_OR_RETURN(const WireDocument body, WireDocument::Parse(request.body));
  GiveBack(request.body);
  RETURN_IF_ERROR(route.read(body.root(), call, shape));
  TakeRequestId(call.base);
  return absl::OkStatus();
}

void AnswerEmbedding(HttpExchange& exchange, const EmbeddingRoute& route,
                     const EmbeddingShape& shape, const EmbeddingResult& result) {
  if (const auto& error = result.error)
    return RespondError(exchange, HttpStatus(error->code), error->message, error->param);
  HttpResponse response;
  response.body = route.write(shape, result);
  exchange.Respond(std::move(response));
}

void Embed(GenerationService& service, const EmbeddingRoute& route,
           std::shared_ptr<HttpExchange> exchange) {
  HttpRequest& request = exchange->request();
  EmbeddingCall call;
  BeginCall(request, call.base);
  auto shape = std::make_shared<EmbeddingShape>();
  absl::Status status = ReadEmbeddingBody(request, route, call, *shape);
  if (status.ok()) {
    const auto stream =
        service.StartEmbedding(call, [exchange, &route, shape](const EmbeddingResult& result) {
          AnswerEmbedding(*exchange, route, *shape, result);
        });
    if (stream.ok()) {
      return exchange->Watch([stream = *stream](CancelReason reason) { stream->Cancel(reason); },
                             [] {});
    }
    status = stream.status();
  }
  service.RecordRefusal(call.base, status);
  RespondStatus(*exchange, status);
}

}  // namespace

void AddEmbeddingRoutes(Router& router, GenerationService& service, const Answers& answers) {
  for (const EmbeddingRoute& route : kEmbeddingRoutes) {
    const auto embed = [&service, &route](std::shared_ptr<HttpExchange> exchange) {
      Embed(service, route, std::move(exchange));
    };
    router.Add("POST", route.path, RouteAccess::Needs(Permission::kInfer),
               OnTextWorker(service, IdempotencyStore::Wrap(answers, embed)));
  }
}

}  // namespace penstock
