// How fast the CPU's operations are: linear layers in every form, attention over caches.
// Owns the operands while it measures. Must not know models or requests.
// Threads: uses the device's pool.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/step_progress.h"
#include "measure/roofline.h"
#include "penstock/backend.h"

namespace penstock {

struct KernelFigure {
  std::string name;       // linear/int8/gate_up/m:16, attention/bfloat16/decode:16/context:512
  double seconds = 0;     // of a call, the median
  double operations = 0;  // of a call; 2 for a multiply-add
  double bytes = 0;       // of weights or cache that a call reads
  int64_t calls = 0;
  Arithmetic arithmetic = Arithmetic::kFloat;  // of its products
};

struct KernelOptions {
  std::string filter;    // a regular expression that is found in the name; empty: all
  double seconds = 0.3;  // that each is called for, at least five times
  // What the device multiplies, as OpenedBackend has it.
  bool fast_bf16 = false, byte_products = false;
};

/// Shapes are those of Qwen2.5-0.5B. Calls go round copies of weights and caches that are ten times
/// the last-level cache (256 MiB to 1 GiB), so that they come from memory. `measured` is told each
/// figure when it is there.
/// INVALID_ARGUMENT: the filter is no expression, or fits nothing.
absl::StatusOr<std::vector<KernelFigure>> MeasureKernels(
    Device& device, const KernelOptions& options,
    const std::function<void(const KernelFigure&)>& measured, const StepProgress& progress = {});

}  // namespace penstock
