// The place of a call in a distributed trace, by W3C Trace Context.
// Owns its strings. Must not know how a protocol carries the header.
// Threads: value.
#pragma once

#include <string>
#include <string_view>

#include "penstock/config.h"

namespace penstock {

/// Lower-case hexadecimal, as on the wire.
struct TraceIds {
  std::string trace_id;   // 32 digits
  std::string span_id;    // 16 digits: of this call
  std::string parent_id;  // 16 digits: the caller's span; empty: the trace begins here
  std::string flags = "00";
  /// Somebody wants the trace recorded.
  bool sampled() const {
    return flags.size() == 2 &&
           std::string_view("13579bdf").find(flags[1]) != std::string_view::npos;
  }
};

/// A new span of the trace that `traceparent` names, or of a new one where it is absent or no
/// traceparent; of those a part, `sample`, is marked as sampled.
TraceIds ContinueTrace(std::string_view traceparent, double sample = 0);
/// Of the traces that begin here.
inline double SampledShare(const ObserveSection& observe) {
  return observe.otlp.empty() ? 0 : observe.trace_sample.value;
}
/// The header that names this call's span.
std::string Traceparent(const TraceIds& trace);

}  // namespace penstock
