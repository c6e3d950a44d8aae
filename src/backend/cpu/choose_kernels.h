// Which table of kernels computes what: each kind of product takes the one that was fastest when
// measured, of those that agree with plain arithmetic.
// Owns the process's measurement. Must not know models or weights.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backend/cpu/kernels.h"
#include "penstock/backend.h"

namespace penstock {

/// A table and its speed on one thread, in 1e9 multiplications and additions per second.
struct MeasuredKernels {
  const CpuKernels* table = nullptr;
  bool agrees = false;  // with plain arithmetic; where it does not it is not measured
  double plain_gops = 0;
  double bf16_gops = 0;      // bfloat16 weights and inputs; 0 where the table has no such products
  double codes_gops = 0;     // codes, float inputs
  double integers_gops = 0;  // codes, 8-bit inputs
};

/// What lays out a layer's panels also multiplies with them, so a choice holds for all of a device.
struct KernelChoice {
  KernelChoice() = default;
  KernelChoice(const CpuKernels& all) : plain(&all), codes(&all), integers(&all) {}

  const CpuKernels* plain = nullptr;  // weights that are numbers, and all that is no linear layer
  const CpuKernels* codes = nullptr;
  const CpuKernels* integers = nullptr;
  bool bf16_products = false;  // `plain` multiplies bfloat16 inputs as they are

  const CpuKernels& Of(const LinearSegment& segment) const {
    if (segment.integer_input) return *integers;
    const bool coded =
        segment.format == WeightFormat::kCodes4 || segment.format == WeightFormat::kCodes8;
    return coded ? *codes : *plain;
  }
  int64_t max_panel_rows() const;
  /// "plain avx2, codes avx2, integers avx2-vnni", or one name where all are alike.
  std::string Describe() const;
};

/// All tables that this program has, the widest first.
absl::Span<const std::string_view> KernelNames();
/// Those that this processor runs, the widest first.
std::vector<const CpuKernels*> RunnableKernels();

/// Checks and measures each: some milliseconds.
std::vector<MeasuredKernels> MeasureKernels(absl::Span<const CpuKernels* const> tables);
/// Of the runnable ones, once per process.
const std::vector<MeasuredKernels>& ProcessKernels();

/// `name`: "auto", or the table to use for everything. Of nearly equal speeds the first is taken, so
/// that one machine chooses alike each time. FAILED_PRECONDITION where the processor lacks what is
/// named, or nothing agrees.
absl::StatusOr<KernelChoice> ChooseKernels(absl::Span<const MeasuredKernels> measured,
                                           std::string_view name);

}  // namespace penstock
