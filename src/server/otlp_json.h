// Finished requests as spans, written as OTLP's JSON: the request, and in it the time in the queue,
// the prefill and the decode, by the names of OpenTelemetry's conventions for generative AI.
// Owns nothing. Must not know how spans are sent.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "penstock/service.h"

namespace penstock {

struct TracedRequest {
  RequestRecord record;
  absl::Time end;  // by the wall clock
};

/// Who says so: the resource of all spans.
struct TraceSource {
  std::string version, instance, host;
  int64_t pid = 0;
};

int64_t NumSpans(const RequestRecord& record);
/// The body of POST /v1/traces.
std::string OtlpBody(const TraceSource& source, absl::Span<const TracedRequest> requests);
/// How many spans an answer (of 2xx) says were not taken, `most` at most.
int64_t RejectedSpans(const std::string& answer, int64_t most);

}  // namespace penstock
