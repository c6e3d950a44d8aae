// What is left of a tenant's limits, as OpenAI's clients read it.
// Owns nothing. Must not know how limits are kept.
// Threads: thread-safe.
#pragma once

#include "api/http/message.h"
#include "penstock/service.h"

namespace penstock {

/// Those that the service gives the answer, and AddLimitHeaders.
void AddStartHeaders(HttpExchange& exchange, const ResponseStart& start);
/// x-ratelimit-{limit,remaining,reset}-{requests,tokens}, of the limits that there are; resets such
/// as 1.5s or 1m3s. Before the answer begins.
void AddLimitHeaders(HttpExchange& exchange, const TenantState& state);

}  // namespace penstock
