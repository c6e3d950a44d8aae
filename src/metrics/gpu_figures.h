// What is known of one GPU at one moment, and the series that tell it.
// Owns nothing. Must not know who reads GPUs.
// Threads: values.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// A figure that the GPU has told.
struct GpuSample {
  std::string_view metric;  // penstock_gpu_*, of the catalogue
  std::string_view kind;  // the value of the metric's label beside gpu and uuid; empty: it has none
  double value = 0;
};

struct GpuFigures {
  std::string index, uuid;  // as the driver counts and names it
  std::string name;         // of the product
  std::string pci_address, driver;
  bool up = false;  // it has answered
  std::vector<GpuSample> samples;
};

/// One family for each penstock_gpu_* that at least one GPU tells, in the catalogue's order.
std::vector<prometheus::MetricFamily> GpuFamilies(const std::vector<GpuFigures>& gpus);

}  // namespace penstock
