#include "backend/make_backend.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backend/cpu/choose_kernels.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cuda/cuda_backend.h"
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

[[maybe_unused]] absl::StatusOr<OpenedBackend> OpenedOf(absl::StatusOr<OpenedCuda> cuda) {
  RETURN_IF_ERROR(cuda.status());
  OpenedBackend opened;
  opened.device = std::move(cuda->device);
  opened.kernels = std::move(cuda->kernels);
  opened.abilities = cuda->abilities;
  return opened;
}

absl::StatusOr<OpenedBackend> OpenGpu([[maybe_unused]] const CudaOptions& options) {
#if defined(PENSTOCK_HAVE_CUDA)
  return OpenedOf(kernels::OpenCuda(options));
#else
  return absl::UnavailableError(
      absl::StrCat("device ", options.name, ": this build has no CUDA backend; use device: cpu"));
#endif
}

absl::StatusOr<OpenedBackend> OpenEmulated([[maybe_unused]] const CudaOptions& options) {
#if defined(PENSTOCK_HAVE_EMULATED_CUDA)
  return OpenedOf(kernels_emulated::OpenCuda(options));
#else
  return absl::UnavailableError(
      absl::StrCat("device ", options.name, ": this build has no kernel emulator"));
#endif
}

}  // namespace

absl::StatusOr<OpenedBackend> OpenBackend(const BackendOptions& options) {
  CudaOptions cuda{options.device, 0, options.pool};
  if (options.device == "cpu") return OpenCpu(options);
  if (options.device == "cuda-emulated") return OpenEmulated(cuda);
  if (options.device == "auto") {
    cuda.name = "cuda";
    absl::StatusOr<OpenedBackend> gpu = OpenGpu(cuda);
    return gpu.ok() ? std::move(gpu) : OpenCpu(options);
  }
  const bool numbered = absl::StartsWith(options.device, "cuda:") &&
                        absl::SimpleAtoi(options.device.substr(5), &cuda.device) &&
                        cuda.device >= 0;
  if (numbered || options.device == "cuda") return OpenGpu(cuda);
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown device \"", options.device, "\", expected auto, cpu, cuda:N or cuda-emulated"));
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
