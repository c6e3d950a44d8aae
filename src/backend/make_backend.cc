#include "backend/make_backend.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backend/cpu/choose_kernels.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/pack_linear.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/planning_device.h"
#include "backend/thread_collective.h"
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
  opened.byte_products = !choice.integers->word_inputs;
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
  opened.note = std::move(cuda->note);
  opened.memory = std::move(cuda->memory);
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

/// The CPU in the place of a GPU that cannot be used: worth a word only where there is a driver.
absl::StatusOr<OpenedBackend> OpenInstead([[maybe_unused]] const absl::Status& gpu,
                                          const BackendOptions& options) {
  ASSIGN_OR_RETURN(OpenedBackend cpu, OpenCpu(options));
#if defined(PENSTOCK_HAVE_CUDA)
  if (kernels::HasDriver()) {
    absl::StrAppend(&cpu.note, cpu.note.empty() ? "" : "; ",
                    "device auto is the CPU: ", gpu.message());
  }
#endif
  return cpu;
}

absl::StatusOr<OpenedBackend> OpenEmulated([[maybe_unused]] const CudaOptions& options) {
#if defined(PENSTOCK_HAVE_EMULATED_CUDA)
  return OpenedOf(kernels_emulated::OpenCuda(options));
#else
  return absl::UnavailableError(
      absl::StrCat("device ", options.name, ": this build has no kernel emulator"));
#endif
}

absl::StatusOr<Determinism> ParseDeterminism(const std::string& name) {
  if (name == "off") return Determinism::kOff;
  if (name == "run") return Determinism::kRun;
  if (name == "strict") return Determinism::kStrict;
  return absl::InvalidArgumentError(
      absl::StrCat("deterministic is \"", name, "\", expected off, run or strict"));
}

bool IsCudaDevice(const std::string& device) {
  int number = 0;
  return device == "cuda" || device == "cuda-emulated" ||
         (absl::StartsWith(device, "cuda:") && absl::SimpleAtoi(device.substr(5), &number) &&
          number >= 0);
}

OpenedBackend PlanOn(const std::string& name, bool on_host, PlanningDevice::Packing packing) {
  OpenedBackend planned;
  planned.device = std::make_unique<PlanningDevice>(name, on_host, std::move(packing));
  return planned;
}

}  // namespace

absl::StatusOr<OpenedBackend> PlanBackend(const BackendOptions& options) {
  WorkerPool& pool = *options.pool;
  const absl::StatusOr<OpenedBackend> opened = OpenBackend(options);
  const std::string device = opened.ok() ? std::string(opened->device->name()) : options.device;
  if (IsCudaDevice(device)) {
    if (!opened.ok() && !absl::IsUnavailable(opened.status())) return opened.status();
    OpenedBackend planned = PlanOn(
        device, false, [&pool, numbers = options.numbers](int64_t k, auto parts, auto& segments) {
          return PlanCudaPacking(k, parts, numbers, pool, segments);
        });
    planned.abilities = CudaAbilities(options.numbers);
    planned.absent = opened.status();
    if (opened.ok()) {
      planned.note = opened->note;
      planned.memory = [now = opened->memory()] { return now; };
    }
    return planned;
  }
  RETURN_IF_ERROR(opened.status());
  const KernelChoice kernels = static_cast<const CpuDevice&>(*opened->device).kernels();
  OpenedBackend planned =
      PlanOn(device, true, [&pool, kernels](int64_t k, auto parts, auto& segments) {
        segments = PlanSegments(parts, kernels, pool);
        return PlaceSegments(k, kernels, segments);
      });
  planned.kernels = opened->kernels;
  planned.note = opened->note;
  planned.fast_bf16 = opened->fast_bf16;
  return planned;
}

absl::StatusOr<OpenedBackend> OpenBackend(const BackendOptions& options) {
  CudaOptions cuda;
  cuda.name = options.device;
  cuda.pool = options.pool;
  ASSIGN_OR_RETURN(cuda.determinism, ParseDeterminism(options.deterministic));
  cuda.tuning_folder = options.tuning_folder;
  cuda.numbers = options.numbers;
  if (options.device == "cpu") return OpenCpu(options);
  if (options.device == "cuda-emulated") return OpenEmulated(cuda);
  if (options.device == "auto") {
    cuda.name = "cuda";
    absl::StatusOr<OpenedBackend> gpu = OpenGpu(cuda);
    return gpu.ok() ? std::move(gpu) : OpenInstead(gpu.status(), options);
  }
  const bool numbered = absl::StartsWith(options.device, "cuda:") &&
                        absl::SimpleAtoi(options.device.substr(5), &cuda.device) &&
                        cuda.device >= 0;
  if (numbered || options.device == "cuda") return OpenGpu(cuda);
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown device \"", options.device, "\", expected auto, cpu, cuda:N or cuda-emulated"));
}

std::string DeviceOfRank(const std::string& device, int32_t rank) {
  return device == "cuda" ? absl::StrCat("cuda:", rank) : device;
}

absl::StatusOr<std::unique_ptr<Collective>> MakeCollective(absl::Span<Device* const> ranks,
                                                           absl::Duration patience) {
  [[maybe_unused]] constexpr int kSlower = 30;  // the emulator, than what it emulates
  const auto size = static_cast<int32_t>(ranks.size());
  if (ranks[0]->shares_host_memory()) return std::make_unique<ThreadCollective>(size, patience);
  if (dynamic_cast<PlanningDevice*>(ranks[0]) != nullptr) {
    for (Device* rank : ranks) RETURN_IF_ERROR(rank->Allocate(PeerCollectiveBytes(size)).status());
    return std::make_unique<ThreadCollective>(size, patience);
  }
#if defined(PENSTOCK_HAVE_EMULATED_CUDA)
  if (ranks[0]->name() == "cuda-emulated")
    return kernels_emulated::MakePeerCollective(ranks, kSlower * patience);
#endif
#if defined(PENSTOCK_HAVE_CUDA)
  return kernels::MakePeerCollective(ranks, patience);
#else
  return absl::InternalError("ranks on a device that this build does not have");
#endif
}

std::string_view BuiltCuda() {
#if defined(PENSTOCK_HAVE_CUDA)
  return PENSTOCK_HAVE_CUDA;
#else
  return "no";
#endif
}

int64_t HeldBytes() {
  int64_t bytes = HeldHostBytes();
#if defined(PENSTOCK_HAVE_CUDA)
  bytes += kernels::HeldDeviceBytes();
#endif
#if defined(PENSTOCK_HAVE_EMULATED_CUDA)
  bytes += kernels_emulated::HeldDeviceBytes();
#endif
  return bytes;
}

std::vector<std::string> GpusInUse() {
  std::vector<std::string> gpus;
#if defined(PENSTOCK_HAVE_CUDA)
  gpus = kernels::GpusInUse();
#endif
#if defined(PENSTOCK_HAVE_EMULATED_CUDA)
  for (std::string& gpu : kernels_emulated::GpusInUse()) gpus.push_back(std::move(gpu));
#endif
  return gpus;
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
