#include "api/http/limit_headers.h"

#include "absl/strings/str_cat.h"

namespace penstock {

void AddStartHeaders(HttpExchange& exchange, const ResponseStart& start) {
  for (const auto& [name, value] : start.headers) exchange.AddHeader(name, value);
  AddLimitHeaders(exchange, start.limits);
}

void AddLimitHeaders(HttpExchange& exchange, const TenantState& state) {
  for (const auto& [what, left] :
       {std::pair("requests", &state.requests), {"tokens", &state.tokens}}) {
    if (left->limit <= 0) continue;
    exchange.AddHeader(absl::StrCat("x-ratelimit-limit-", what), absl::StrCat(left->limit));
    exchange.AddHeader(absl::StrCat("x-ratelimit-remaining-", what), absl::StrCat(left->remaining));
    exchange.AddHeader(absl::StrCat("x-ratelimit-reset-", what),
                       absl::FormatDuration(absl::Ceil(left->reset, absl::Milliseconds(1))));
  }
}

}  // namespace penstock
