// The place of a call in a distributed trace, by W3C Trace Context.
// Owns its strings. Must not know how a protocol carries the header.
// Threads: value.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

/// Lower-case hexadecimal, as on the wire.
struct TraceIds {
  std::string trace_id;   // 32 digits
  std::string span_id;    // 16 digits: of this call
  std::string parent_id;  // 16 digits: the caller's span; empty: the trace begins here
  std::string flags = "00";
};

/// A new span of the trace that `traceparent` names, or of a new one where it is absent or no
/// traceparent.
TraceIds ContinueTrace(std::string_view traceparent);
/// The header that names this call's span.
std::string Traceparent(const TraceIds& trace);

}  // namespace penstock
