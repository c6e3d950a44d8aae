// Opens a device by its name in the configuration, and says how fast the CPU's kernels are.
// Owns nothing. The one place that knows which backends were built. Must not know models or
// batches.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "backend/collective.h"
#include "backend/device_abilities.h"
#include "backend/device_memory.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

struct BackendOptions {
  std::string device = "cpu";         // auto | cpu | cuda | cuda:N | cuda-emulated
  WorkerPool* pool = nullptr;         // outlives the device
  std::string cpu_kernels = "auto";   // or the instruction set for everything
  std::string deterministic = "off";  // off | run | strict: see EngineConfig
  std::string tuning_folder = {};     // where a GPU's measured choices are kept; empty: nowhere
  DType numbers = DType::kBFloat16;   // of a GPU's activations: or float16
};

struct OpenedBackend {
  std::unique_ptr<Device> device;
  DeviceAbilities abilities;
  std::string kernels;     // which of them compute what; layouts of packed weights follow it
  std::string note;        // what an operator should know; empty: nothing
  bool fast_bf16 = false;  // bfloat16 weights meet bfloat16 inputs clearly faster than float32 ones
  bool byte_products =
      false;  // of the CPU: 8-bit codes and inputs are multiplied as bytes, else as
              // words
  std::function<DeviceMemory()> memory = {};  // while the device lives; empty: the host's
  absl::Status absent;  // of a PlanningDevice: why what it stands for cannot be opened; OK: it can
};

/// UNAVAILABLE where this machine or build has no such device; `auto` is then the CPU.
absl::StatusOr<OpenedBackend> OpenBackend(const BackendOptions& options);
/// The same with a PlanningDevice in the device's place; a GPU need not be there, and where it is,
/// `memory` is what it has now. `auto` is what OpenBackend would take.
absl::StatusOr<OpenedBackend> PlanBackend(const BackendOptions& options);

/// The device of one of the ranks that share a model on `device`, a name without `auto`: "cuda" is a
/// GPU for each, from 0 on; every other name is the device of all.
std::string DeviceOfRank(const std::string& device, int32_t rank);
/// Of ranks whose devices OpenBackend opened, or PlanBackend, and which outlive it. `patience`: that
/// they have with each other; the emulated device's have more.
absl::StatusOr<std::unique_ptr<Collective>> MakeCollective(absl::Span<Device* const> ranks,
                                                           absl::Duration patience);

/// The CUDA toolkit that this build was compiled with, as "13.0"; "no": none.
std::string_view BuiltCuda();

/// Bytes of all devices' buffers that this process holds.
int64_t HeldBytes();

/// PCI addresses of the GPUs on which this process has devices, the emulated one included.
std::vector<std::string> GpusInUse();

/// A set of the CPU's kernels on one thread, in 1e9 multiplications and additions per second.
struct CpuKernelSpeed {
  std::string name;
  bool agrees = false;  // with plain arithmetic; else it is not used, and not measured
  double plain_gops = 0;
  double bf16_gops = 0;      // bfloat16 weights and inputs; 0: it has no such products
  double codes_gops = 0;     // weights in codes
  double integers_gops = 0;  // codes, 8-bit inputs
};

/// Measured once per process.
std::vector<CpuKernelSpeed> CpuKernelSpeeds();

}  // namespace penstock
