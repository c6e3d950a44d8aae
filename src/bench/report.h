// Results as a page for people: one HTML file that needs nothing else, or Markdown.
// Owns nothing. Must not know how the results came to be.
// Threads: value.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace penstock {

struct NamedResults {
  std::string name;                              // of the file
  const nlohmann::ordered_json* file = nullptr;  // as ReadResultFile gives it
};

/// Tables, latency distributions, throughput against latency, rooflines; no script, no request.
std::string HtmlReport(const std::vector<NamedResults>& results);
std::string MarkdownReport(const std::vector<NamedResults>& results);
/// "float 150.0 Gop/s, byte 610.2 Gop/s, memory 40.1 GB/s", of the `limits` of results of kernels.
std::string LimitsText(const nlohmann::ordered_json& limits);

}  // namespace penstock
