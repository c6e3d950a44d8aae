// The routes of the OpenAI API and those beside it (/tokenize, /health, /metrics, ...), put into a
// router.
// Owns nothing. Must not know sockets.
// Threads: the endpoints are thread-safe; what is long runs on the service's text workers.
#pragma once

#include "api/http/idempotency.h"
#include "api/http/router.h"
#include "service/adapter_pool.h"
#include "service/generation_service.h"

namespace penstock {

/// Tells the service who did what over HTTP; `reason`: why, in the caller's words.
void RecordAct(const GenerationService& service, const HttpRequest& request,
               std::string_view action, std::string object, const absl::Status& outcome,
               std::string reason = "");

/// Those kept under an Idempotency-Key, of all routes together.
using Answers = std::shared_ptr<IdempotencyStore>;

/// `service` outlives the router.
void AddOpenAiRoutes(Router& router, GenerationService& service, const Answers& answers);

// The groups that AddOpenAiRoutes is made of.
void AddGenerationRoutes(Router& router, GenerationService& service,
                         const Answers& answers);  // /v1/completions, /v1/chat/completions
void AddResponseRoutes(Router& router, GenerationService& service,
                       const Answers& answers);  // /v1/responses
void AddEmbeddingRoutes(Router& router, GenerationService& service,
                        const Answers& answers);                  // /v1/embeddings, /v1/rerank
void AddTokenRoutes(Router& router, GenerationService& service);  // /tokenize, /detokenize
void AddStatusRoutes(
    Router& router,
    GenerationService& service);  // models, health, ready, metrics, errors, openapi
void AddAdapterRoutes(Router& router, GenerationService& service,
                      AdapterCaller caller);  // /v1/load_lora_adapter, /v1/unload_...
void AddStartPage(Router& router);            // /, /page/...

/// What every call over HTTP takes from its request.
void BeginCall(const HttpRequest& request, GenerationCall& call);
/// The request's own id goes before the header's.
void TakeRequestId(GenerationCall& call);
/// Starts a call, to be cancelled and resumed by its client. After an error nobody has answered.
absl::Status StartAnswer(GenerationService& service, const GenerationCall& call,
                         std::shared_ptr<ResponseSink> answer, HttpExchange& exchange);

/// An endpoint that runs `work` on a text worker, its body inflated where it came compressed; 429
/// where too much waits.
Endpoint OnTextWorker(GenerationService& service, Endpoint work);
void RespondStatus(HttpExchange& exchange, const absl::Status& status);

}  // namespace penstock
