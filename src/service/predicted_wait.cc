#include "service/predicted_wait.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "service/call_error.h"

namespace penstock {

absl::Duration PredictedWait(const EngineLoad& load, int32_t priority, std::string_view tenant) {
  const bool takes_turns = load.has_turns && !tenant.empty();
  absl::Span<const WaitingLoad> waiting;
  if (load.waiting != nullptr) waiting = *load.waiting;
  int64_t queued = 0, own_requests = 0, own_cost = 0;
  for (const WaitingLoad& level : waiting) {
    queued += level.num_requests;
    if (level.priority != priority || level.tenant != tenant) continue;
    own_requests = level.num_requests;
    own_cost = level.cost;
  }
  int64_t requests = 0, tokens = 0;
  for (const WaitingLoad& level : waiting) {
    if (load.has_turns && level.priority > priority) continue;
    int64_t before = level.num_requests;
    if (takes_turns && level.priority == priority && level.tenant != tenant) {
      // As many of theirs as cost what its own do, and the one whose turn it is.
      const double cost =
          static_cast<double>(std::max<int64_t>(1, level.cost)) / std::max(1, level.num_requests);
      before = std::min(before, static_cast<int64_t>(static_cast<double>(own_cost) / cost) + 1);
    }
    requests += before;
    tokens += level.num_tokens * before / std::max(1, level.num_requests);
  }
  // Those on their way to the queue; whose they are is not known.
  const int64_t coming = std::max<int64_t>(0, load.num_waiting - queued);
  requests += takes_turns ? std::min(coming, own_requests + 1) : coming;
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
