#include "service/predicted_wait.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/call_error.h"

namespace penstock {

absl::Duration PredictedWait(const EngineLoad& load, int32_t priority, std::string_view tenant) {
  int64_t queued = 0, own_requests = 0, own_tokens = 0;
  for (const WaitingLoad& level : load.waiting) {
    queued += level.num_requests;
    if (level.priority != priority || level.tenant != tenant) continue;
    own_requests = level.num_requests;
    own_tokens = level.num_tokens;
  }
  int64_t requests = 0, tokens = 0;
  for (const WaitingLoad& level : load.waiting) {
    if (level.priority > priority) continue;
    const bool turns = level.priority == priority && !level.tenant.empty() && !tenant.empty();
    if (!turns || level.tenant == tenant) {
      requests += level.num_requests;
      tokens += level.num_tokens;
      continue;
    }
    // One of theirs may be first at each turn.
    const int64_t one = level.num_tokens / std::max(1, level.num_requests);
    requests += std::min<int64_t>(level.num_requests, own_requests + 1);
    tokens += std::min(level.num_tokens, own_tokens + one);
  }
  requests += std::max<int64_t>(0, load.num_waiting - queued);  // not in the queue yet
  double seconds = 0;
  if (load.requests_per_second > 0)
    seconds = static_cast<double>(requests) / load.requests_per_second;
  if (load.tokens_per_second > 0)
    seconds = std::max(seconds, static_cast<double>(tokens) / load.tokens_per_second);
  return absl::Seconds(seconds);
}

absl::Status CheckWait(absl::Duration wait, absl::Duration most) {
  if (wait <= most) return absl::OkStatus();
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                            "the first token is expected in ",
                            absl::FormatDuration(absl::Ceil(wait, absl::Seconds(1))),
                            ", more than the request would wait (",
                            absl::FormatDuration(absl::Trunc(most, absl::Milliseconds(1))), ")")),
                        wait);
}

}  // namespace penstock
