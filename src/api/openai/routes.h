// The routes of the OpenAI API and those beside it (/tokenize, /health, /metrics, ...), put into a
// router.
// Owns nothing. Must not know sockets.
// Threads: the endpoints are thread-safe; what is long runs on the service's text workers.
#pragma once

#include "api/http/idempotency.h"
#include "api/http/router.h"
#include "service/generation_service.h"

namespace penstock {

/// `service` outlives the router.
void AddOpenAiRoutes(Router& router, GenerationService& service);

// The groups that AddOpenAiRoutes is made of.
using Answers = std::shared_ptr<IdempotencyStore>;
void AddGenerationRoutes(Router& router, GenerationService& service,
                         const Answers& answers);  // /v1/completions, /v1/chat/completions
void AddEmbeddingRoutes(Router& router, GenerationService& service,
                        const Answers& answers);                  // /v1/embeddings, /v1/rerank
void AddTokenRoutes(Router& router, GenerationService& service);  // /tokenize, /detokenize
void AddStatusRoutes(Router& router,
                     GenerationService& service);  // models, health, ready, metrics, version
void AddStartPage(Router& router);                 // /

/// What every call over HTTP takes from its request.
void BeginCall(const HttpRequest& request, GenerationCall& call);
/// A stream cannot be repeated under an Idempotency-Key.
absl::Status CheckMayStream(const HttpRequest& request, const GenerationCall& call);

/// An endpoint that runs `work` on a text worker, its body inflated where it came compressed; 429
/// where too much waits.
Endpoint OnTextWorker(GenerationService& service, Endpoint work);
void RespondStatus(HttpExchange& exchange, const absl::Status& status);

}  // namespace penstock
