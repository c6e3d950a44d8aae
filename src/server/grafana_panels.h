// The panels of each dashboard: titles and queries.
// Owns constants. Must not know Grafana's JSON.
// Threads: constants.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/types/span.h"

namespace penstock {

/// How the figures of a metric become a query. {M} of a query stands for the matchers of the
/// board's variables: of the model and the server, or of the server alone.
enum class PanelKind : uint8_t {
  kNow,        // a gauge as it is, summed by `by`
  kMost,       // a gauge, the largest of each `by`
  kRate,       // a counter, per second
  kQuantiles,  // a histogram: median, 95 % and 99 %
  kHeat,       // a histogram: how many in each bucket
  kMean,       // a histogram: mean
  kQuery,      // what `query` says
};

struct BoardPanel {
  std::string_view row;    // a heading before it; empty: none
  std::string_view title;  // unique in its board
  PanelKind kind;
  std::string_view metric;      // of the catalogue; what the panel's description tells
  std::string_view by = "";     // labels, comma-separated
  std::string_view query = "";  // kQuery; kNow: behind the metric, such as " == 0"
  std::string_view unit = "";   // Grafana's; empty: by the metric's name
};

struct BoardPlan {
  std::string_view name;  // penstock-NAME
  std::string_view title;
  std::string_view about;
  absl::Span<const BoardPanel> panels;
};

absl::Span<const BoardPlan> BoardPlans();

}  // namespace penstock
