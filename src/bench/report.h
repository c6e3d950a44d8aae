// Figures of a load test, as a table for people and JSON for files.
// Owns nothing. Must not know sockets.
// Threads: value.
#pragma once

#include <string>
#include <vector>

#include "bench/load_run.h"

namespace penstock {

struct LoadSummary {
  int32_t num_ok = 0, num_failed = 0;
  double seconds = 0, requests_per_second = 0, output_tokens_per_second = 0,
         prompt_tokens_per_second = 0;
  double ttft_p50 = 0, ttft_p99 = 0, itl_p50 = 0, itl_p99 = 0, e2e_p50 = 0, e2e_p99 = 0;  // seconds
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  double server_cpu_ms_per_request = -1;
  int64_t server_rss_bytes = -1;
};

/// The q-quantile (nearest rank) of `values`; 0 of none.
double Quantile(std::vector<double> values, double q);
LoadSummary Summarize(const LoadResult& result);
std::string SummaryHeader();
std::string SummaryRow(const Scenario& scenario, const LoadSummary& summary);
/// One object: scenario, figures, machine.
std::string SummaryJson(const Scenario& scenario, const LoadSummary& summary,
                        const std::string& version);

}  // namespace penstock
