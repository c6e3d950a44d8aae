#include "server/metrics_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"

namespace penstock {
namespace {

/// name="value", with \\, \" and \n in the value; `at` goes behind it. False: there is none.
bool ReadLabel(std::string_view line, size_t& at, MetricSeries& series) {
  while (at < line.size() && (line[at] == ',' || line[at] == ' ')) ++at;
  const size_t equals = line.find("=\"", at);
  if (at >= line.size() || line[at] == '}' || equals == line.npos) return false;
  const std::string name(line.substr(at, equals - at));
  std::string value;
  for (at = equals + 2; at < line.size() && line[at] != '"'; ++at) {
    if (line[at] != '\\' || at + 1 == line.size()) {
      value += line[at];
      continue;
    }
    ++at;
    value += line[at] == 'n' ? '\n' : line[at];
  }
  if (at < line.size()) ++at;
  series.labels[name] = std::move(value);
  return true;
}

bool OfModel(const MetricSeries& series, std::string_view model) {
  if (model.empty()) return true;
  const auto it = series.labels.find("model_name");
  return it != series.labels.end() && it->second == model;
}

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

}  // namespace

MetricsText::MetricsText(std::string_view text, absl::Time when) : when_(when) {
  for (const absl::string_view absl_line : absl::StrSplit(ToAbsl(text), '\n')) {
    const std::string_view line(absl_line.data(), absl_line.size());
    if (line.empty() || line[0] == '#') continue;
    const size_t name_end = line.find_first_of("{ ");
    if (name_end == line.npos) continue;
    MetricSeries series;
    size_t at = name_end;
    if (line[at] == '{') {
      ++at;
      while (ReadLabel(line, at, series)) {
      }
      at = line.find('}', at);
      if (at == line.npos) continue;
      ++at;
    }
    const absl::string_view number = absl::StripAsciiWhitespace(ToAbsl(line.substr(at)));
    if (!absl::SimpleAtod(number.substr(0, number.find(' ')), &series.value)) continue;
    series_[std::string(line.substr(0, name_end))].push_back(std::move(series));
  }
}

const std::vector<MetricSeries>& MetricsText::Find(std::string_view name) const {
  static const std::vector<MetricSeries> none;
  const auto it = series_.find(name);
  return it == series_.end() ? none : it->second;
}

double MetricsText::Sum(std::string_view name, std::string_view model) const {
  double sum = 0;
  for (const MetricSeries& series : Find(name)) {
    if (OfModel(series, model)) sum += series.value;
  }
  return sum;
}

double MetricsText::Max(std::string_view name, std::string_view model) const {
  double most = 0;
  for (const MetricSeries& series : Find(name)) {
    if (OfModel(series, model)) most = std::max(most, series.value);
  }
  return most;
}

std::string MetricsText::Label(std::string_view name, std::string_view label) const {
  const std::vector<MetricSeries>& all = Find(name);
  if (all.empty()) return "";
  const auto it = all[0].labels.find(label);
  return it == all[0].labels.end() ? "" : it->second;
}

std::vector<std::string> MetricsText::Models() const {
  std::set<std::string> names;
  for (const MetricSeries& series : Find("vllm:num_requests_running")) {
    const auto it = series.labels.find("model_name");
    if (it != series.labels.end()) names.insert(it->second);
  }
  return {names.begin(), names.end()};
}

std::map<double, double> MetricsText::Buckets(std::string_view name, std::string_view model) const {
  std::map<double, double> out;
  for (const MetricSeries& series : Find(std::string(name) + "_bucket")) {
    const auto it = series.labels.find("le");
    double bound = 0;
    if (it == series.labels.end() || !absl::SimpleAtod(it->second, &bound)) continue;
    if (OfModel(series, model)) out[bound] += series.value;
  }
  return out;
}

double RateBetween(const MetricsText& before, const MetricsText& after, std::string_view name,
                   std::string_view model) {
  const double seconds = absl::ToDoubleSeconds(after.when() - before.when());
  const double grown = after.Sum(name, model) - before.Sum(name, model);
  return seconds <= 0 || grown < 0 ? kUnknown : grown / seconds;
}

double QuantileBetween(const MetricsText& before, const MetricsText& after, std::string_view name,
                       double quantile, std::string_view model) {
  std::map<double, double> counts = after.Buckets(name, model);
  for (const auto& [bound, count] : before.Buckets(name, model)) counts[bound] -= count;
  if (counts.empty() || counts.rbegin()->second <= 0) return kUnknown;
  const double rank = quantile * counts.rbegin()->second;
  double low = 0, below = 0;
  for (const auto& [bound, count] : counts) {
    if (count >= rank) {
      if (std::isinf(bound)) return low;
      return low + (bound - low) * (rank - below) / std::max(count - below, 1e-9);
    }
    low = bound;
    below = count;
  }
  return low;
}

}  // namespace penstock
