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

}  // namespace penstock
