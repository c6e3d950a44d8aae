#include "metrics/gpu_figures.h"

#include <utility>

#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "metrics/catalogue.h"

namespace penstock {
namespace {

using prometheus::ClientMetric;

ClientMetric SeriesOf(const GpuFigures& gpu, MetricType type, double value) {
  ClientMetric series;
  series.label = {{"gpu", gpu.index}, {"uuid", gpu.uuid}};
  (type == MetricType::kCounter ? series.counter.value : series.gauge.value) = value;
  return series;
}

/// The label beside gpu and uuid, or none.
std::string KindLabel(const MetricInfo& row) {
  const std::vector<std::string> labels = absl::StrSplit(ToAbsl(row.labels), ',');
  return labels.size() > 2 ? labels[2] : "";
}

void AddGpu(const GpuFigures& gpu, const MetricInfo& row, std::vector<ClientMetric>& out) {
  if (row.name == "penstock_gpu_up") out.push_back(SeriesOf(gpu, row.type, gpu.up ? 1 : 0));
  if (row.name == "penstock_gpu_info") {
    ClientMetric& series = out.emplace_back(SeriesOf(gpu, row.type, 1));
    series.label.push_back({"name", gpu.name});
    series.label.push_back({"pci_address", gpu.pci_address});
    series.label.push_back({"driver", gpu.driver});
  }
  for (const GpuSample& sample : gpu.samples) {
    if (sample.metric != row.name) continue;
    ClientMetric& series = out.emplace_back(SeriesOf(gpu, row.type, sample.value));
    if (!sample.kind.empty()) series.label.push_back({KindLabel(row), std::string(sample.kind)});
  }
}

}  // namespace

std::vector<prometheus::MetricFamily> GpuFamilies(const std::vector<GpuFigures>& gpus) {
  std::vector<prometheus::MetricFamily> out;
  for (const MetricInfo& row : MetricCatalogue()) {
    if (!row.name.starts_with("penstock_gpu_")) continue;
    prometheus::MetricFamily family;
    family.name = std::string(row.name);
    family.help = std::string(row.help);
    family.type = row.type == MetricType::kCounter ? prometheus::MetricType::Counter
                                                   : prometheus::MetricType::Gauge;
    for (const GpuFigures& gpu : gpus) AddGpu(gpu, row, family.metric);
    if (!family.metric.empty()) out.push_back(std::move(family));
  }
  return out;
}

}  // namespace penstock
