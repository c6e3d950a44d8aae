// Protobuf messages <-> calls and deltas. Fields are found by their names in the table of call
// fields.
// Owns nothing. Must not know gRPC, models or ranges.
// Threads: thread-safe.
#pragma once

#include "absl/types/span.h"
#include "penstock/service.h"

namespace penstock {

namespace v1 {
class Choice;
class GenerateRequest;
class GenerateResponse;
class Usage;
}  // namespace v1

/// Copies every field that the client set.
void ReadCall(const v1::GenerateRequest& request, GenerationCall& call);
void WriteStart(const ResponseStart& start, v1::GenerateResponse& response);
/// Appends to `choice` what the delta brings.
void AddDelta(const Delta& delta, bool with_ids, bool with_logprobs, v1::Choice& choice);
void WriteUsage(const UsageTotals& totals, v1::Usage& usage);

}  // namespace penstock
