#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace penstock {
namespace {

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const size_t rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
  const size_t i = std::min(values.size() - 1, rank == 0 ? 0 : rank - 1);
  std::nth_element(values.begin(), values.begin() + i, values.end());
  return values[i];
}

LoadSummary Summarize(const LoadResult& result) {
  LoadSummary out;
  std::vector<double> ttft, gaps, e2e;
  for (const RequestTiming& request : result.requests) {
    if (!request.ok) {
      ++out.num_failed;
      continue;
    }
    ++out.num_ok;
    ttft.push_back(request.first - request.start);
    e2e.push_back(request.end - request.start);
    gaps.insert(gaps.end(), request.gaps.begin(), request.gaps.end());
    out.prompt_tokens += std::max<int64_t>(0, request.prompt_tokens);
    out.completion_tokens += std::max<int64_t>(0, request.completion_tokens);
    out.cached_tokens += std::max<int64_t>(0, request.cached_tokens);
  }
  out.seconds = result.seconds;
  out.requests_per_second = out.num_ok / result.seconds;
  out.output_tokens_per_second = static_cast<double>(out.completion_tokens) / result.seconds;
  out.prompt_tokens_per_second = static_cast<double>(out.prompt_tokens) / result.seconds;
  out.ttft_p50 = Quantile(ttft, 0.5);
  out.ttft_p99 = Quantile(ttft, 0.99);
  out.itl_p50 = Quantile(gaps, 0.5);
  out.itl_p99 = Quantile(gaps, 0.99);
  out.e2e_p50 = Quantile(e2e, 0.5);
  out.e2e_p99 = Quantile(e2e, 0.99);
  if (result.server_cpu_seconds >= 0)
    out.server_cpu_ms_per_request = 1e3 * result.server_cpu_seconds / result.requests.size();
  out.server_rss_bytes = result.server_rss_bytes;
  return out;
}

std::string SummaryHeader() {
  return "scenario                 ok fail    req/s  out tok/s   in tok/s  ttft p50/p99 ms    itl "
         "p50/p99 ms     e2e p50/p99 ms   cpu ms/req\n";
}

std::string SummaryRow(const Scenario& scenario, const LoadSummary& s) {
  char line[512];
  std::snprintf(line, sizeof(line),
                "%-22s %4d %4d %8.1f %10.0f %10.0f %8.1f/%8.1f %8.2f/%8.2f %9.1f/%9.1f %10.2f\n",
                scenario.name.c_str(), s.num_ok, s.num_failed, s.requests_per_second,
                s.output_tokens_per_second, s.prompt_tokens_per_second, 1e3 * s.ttft_p50,
                1e3 * s.ttft_p99, 1e3 * s.itl_p50, 1e3 * s.itl_p99, 1e3 * s.e2e_p50,
                1e3 * s.e2e_p99, s.server_cpu_ms_per_request);
  return line;
}

std::string SummaryJson(const Scenario& scenario, const LoadSummary& s,
                        const std::string& version) {
  const nlohmann::ordered_json json = {
      {"scenario",
       {{"name", scenario.name},
        {"endpoint", scenario.endpoint},
        {"requests", scenario.requests},
        {"concurrency", scenario.concurrency},
        {"rate", scenario.rate},
        {"prompt_words", scenario.prompt_words},
        {"min_words", scenario.min_words},
        {"prefix_words", scenario.prefix_words},
        {"max_tokens", scenario.max_tokens},
        {"stream", scenario.stream},
        {"ignore_eos", scenario.ignore_eos},
        {"temperature", scenario.temperature},
        {"seed", scenario.seed},
        {"prefix_seed", scenario.prefix_seed}}},
      {"result",
       {{"ok", s.num_ok},
        {"failed", s.num_failed},
        {"seconds", s.seconds},
        {"requests_per_second", s.requests_per_second},
        {"output_tokens_per_second", s.output_tokens_per_second},
        {"prompt_tokens_per_second", s.prompt_tokens_per_second},
        {"prompt_tokens", s.prompt_tokens},
        {"completion_tokens", s.completion_tokens},
        {"cached_tokens", s.cached_tokens},
        {"ttft_seconds", {{"p50", s.ttft_p50}, {"p99", s.ttft_p99}}},
        {"itl_seconds", {{"p50", s.itl_p50}, {"p99", s.itl_p99}}},
        {"e2e_seconds", {{"p50", s.e2e_p50}, {"p99", s.e2e_p99}}},
        {"server_cpu_ms_per_request", s.server_cpu_ms_per_request},
        {"server_rss_bytes", s.server_rss_bytes}}},
      {"machine", {{"cpu", CpuName()}, {"cores", std::thread::hardware_concurrency()}}},
      {"client_version", version},
      {"time", absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone())}};
  return json.dump(2);
}

}  // namespace penstock
