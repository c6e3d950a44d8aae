#include "service/end_metrics.h"

#include "metrics/catalogue.h"
#include "service/call_error.h"

namespace penstock {
namespace {

void CountCancelled(CancelReason reason, double choices, const RequestMetrics& metrics) {
  metrics.success_abort.Add(choices);
  switch (reason) {
    case CancelReason::kDisconnect:
      return metrics.cancelled_disconnect.Add(choices);
    case CancelReason::kSlowReader:
      return metrics.cancelled_slow_reader.Add(choices);
    case CancelReason::kShutdown:
      return metrics.cancelled_shutdown.Add(choices);
  }
}

}  // namespace

const RequestMetrics& MetricsOf(const ServedModel& model) {
  static const RequestMetrics none;
  return model.metrics == nullptr ? none : *model.metrics;
}

CallError ErrorOf(CancelReason reason) {
  switch (reason) {
    case CancelReason::kDisconnect:
      return {absl::StatusCode::kCancelled, "the client went away", ""};
    case CancelReason::kSlowReader:
      return {absl::StatusCode::kResourceExhausted, "the client reads too slowly", ""};
    case CancelReason::kShutdown:
      break;
  }
  return {absl::StatusCode::kUnavailable, "the server is shutting down", ""};
}

void RecordFailure(const std::optional<CancelReason>& cancelled,
                   const std::optional<CallError>& error, double choices,
                   const RequestMetrics& metrics, RequestRecord& record) {
  if (cancelled) {
    record.code = 499;
    record.finish = "abort";
    return CountCancelled(*cancelled, choices, metrics);
  }
  record.code = HttpStatus(error->code);
  record.error = error->message;
  const bool late = error->code == absl::StatusCode::kDeadlineExceeded;
  const bool down = error->code == absl::StatusCode::kUnavailable;
  record.finish = late || down ? "abort" : "error";
  (late || down ? metrics.success_abort : metrics.success_error).Add(choices);
  if (late) metrics.cancelled_deadline.Add(choices);
  if (down) metrics.cancelled_shutdown.Add(choices);
}

}  // namespace penstock
