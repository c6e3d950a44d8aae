// The text of GET /metrics as series, and what two pages say of the time between them.
// Owns copies. Must not know how the text was got or is shown.
// Threads: values.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace penstock {

struct MetricSeries {
  std::map<std::string, std::string, std::less<>> labels;
  double value = 0;
};

class MetricsText {
 public:
  /// Lines that are no samples are passed over.
  MetricsText(std::string_view text, absl::Time when);

  absl::Time when() const { return when_; }
  /// Of `model` alone, where it is not empty.
  double Sum(std::string_view name, std::string_view model = {}) const;
  double Max(std::string_view name, std::string_view model = {}) const;
  std::string Label(std::string_view name, std::string_view label) const;  // of the first series
  std::vector<std::string> Models() const;
  /// Cumulative counts by upper bound, of all series together.
  std::map<double, double> Buckets(std::string_view name, std::string_view model) const;

 private:
  const std::vector<MetricSeries>& Find(std::string_view name) const;

  std::map<std::string, std::vector<MetricSeries>, std::less<>> series_;
  absl::Time when_;
};

/// Per second; NaN where the counter fell, as after a new start, or no time has passed.
double RateBetween(const MetricsText& before, const MetricsText& after, std::string_view name,
                   std::string_view model = {});
/// Of what was observed between the two, as histogram_quantile() has it; NaN: nothing was.
double QuantileBetween(const MetricsText& before, const MetricsText& after, std::string_view name,
                       double quantile, std::string_view model = {});

}  // namespace penstock
