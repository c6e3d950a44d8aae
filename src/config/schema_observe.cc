// The section `observe` of the configuration.
#include "config/schema.h"

namespace penstock {

ConfigSection DescribeObserve(ObserveSection& c) {
  return {
      "observe",
      "What is told about the work.",
      {
          {"log",
           &c.log,
           "Format of the log on stderr. auto: text on a terminal, else JSON.",
           {"auto", "text", "json"}},
          {"level",
           &c.level,
           "The least severe level that is logged.",
           {"debug", "info", "warn", "error"}},
          {"otlp", &c.otlp,
           "The URL of a collector of traces that speaks OTLP over HTTP, such as "
           "http://127.0.0.1:4318. Empty: no spans are made."},
          {"trace_sample", &c.trace_sample,
           "The part (1%, 0.01) of traces that is sent, of those that begin here; where a caller "
           "has begun one (traceparent) its mark counts."},
          {"trace_slow", &c.trace_slow,
           "Requests that take longer are always sent, as are those that fail. 0s: no time is too "
           "long."},
          {"legacy_names", &c.legacy_names,
           "Emit vllm:gpu_cache_usage_perc and vllm:time_per_output_token_seconds as well, which "
           "older boards ask for in the place of vllm:kv_cache_usage_perc and "
           "vllm:inter_token_latency_seconds."},
      }};
}

}  // namespace penstock
