// Dashboards for Grafana, made from the catalogue of metrics: what a panel's figure means and in
// which unit it is comes from the metric's row.
// Owns nothing. Must not know a running server.
// Threads: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace penstock {

struct GrafanaBoard {
  std::string file;  // name.json
  std::string json;
};

/// As they lie in deploy/grafana.
std::vector<GrafanaBoard> GrafanaBoards();

/// Writes them into a folder, which is made where it is not there.
absl::Status WriteGrafanaBoards(const std::string& folder);

}  // namespace penstock
