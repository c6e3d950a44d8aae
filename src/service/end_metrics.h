// How a call that did not go well is counted and what its record says.
// Owns nothing. Must not know tokens or the wire.
// Threads: thread-safe.
#pragma once

#include <optional>

#include "penstock/service.h"

namespace penstock {

/// Those of the model; handles that count nothing where it has none.
const RequestMetrics& MetricsOf(const ServedModel& model);

/// What a client hears of a call that was given up.
CallError ErrorOf(CancelReason reason);

/// Counts `choices` that were given up or failed, and says so in `record`. One of the two is set.
void RecordFailure(const std::optional<CancelReason>& cancelled,
                   const std::optional<CallError>& error, double choices,
                   const RequestMetrics& metrics, RequestRecord& record);

}  // namespace penstock
