#include "backend/make_backend.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/cpu/choose_kernels.h"
#include "backend/cpu/cpu_device.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

absl::StatusOr<OpenedBackend> OpenCpu(const BackendOptions& options) {
  const std::vector<MeasuredKernels>& measured = ProcessKernels();
  ASSIGN_OR_RETURN(const KernelChoice choice, ChooseKernels(measured, options.cpu_kernels));
  OpenedBackend opened;
  opened.device = std::make_unique<CpuDevice>(options.pool, choice);
  opened.kernels = choice.Describe();
  opened.fast_bf16 = choice.bf16_products;
  for (const MeasuredKernels& one : measured) {
    if (one.agrees) continue;
    absl::StrAppend(&opened.note, opened.note.empty() ? "" : "; ", "the ", one.table->name,
                    " kernels failed their self-test on this processor and are not used");
  }
  return opened;
}

}  // namespace

absl::StatusOr<OpenedBackend> OpenBackend(const BackendOptions& options) {
  if (options.device == "cpu" || options.device == "auto") return OpenCpu(options);
  if (absl::StartsWith(options.device, "cuda")) {
    return absl::FailedPreconditionError(absl::StrCat(
        "device ", options.device, ": this build has no CUDA backend; use device: cpu"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown device \"", options.device, "\", expected auto, cpu or cuda:N"));
}

std::vector<CpuKernelSpeed> CpuKernelSpeeds() {
  std::vector<CpuKernelSpeed> speeds;
  for (const MeasuredKernels& one : ProcessKernels()) {
    speeds.push_back({one.table->name, one.agrees, one.plain_gops, one.bf16_gops, one.codes_gops,
                      one.integers_gops});
  }
  return speeds;
}

}  // namespace penstock
