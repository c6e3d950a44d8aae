// The routes of the Anthropic API: /v1/messages and /v1/messages/count_tokens.
// Owns nothing. Must not know sockets.
// Threads: the endpoints are thread-safe; what is long runs on the service's text workers.
#pragma once

#include "api/openai/routes.h"

namespace penstock {

/// `service` outlives the router.
void AddAnthropicRoutes(Router& router, GenerationService& service, const Answers& answers);

}  // namespace penstock
