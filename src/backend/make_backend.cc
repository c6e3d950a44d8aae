#include "backend/make_backend.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/cpu/cpu_device.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<Device>> MakeBackend(const std::string& device, WorkerPool* pool,
                                                    std::string& note) {
  if (device == "cpu" || device == "auto")
    return std::make_unique<CpuDevice>(pool, ChooseKernels(note));
  if (absl::StartsWith(device, "cuda")) {
    return absl::FailedPreconditionError(
        absl::StrCat("device ", device, ": this build has no CUDA backend; use device: cpu"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown device \"", device, "\", expected auto, cpu or cuda:N"));
}

}  // namespace penstock
