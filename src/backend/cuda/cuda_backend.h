// Opens a CUDA device: the real one, or the emulated one that runs the same kernels on the CPU. Both
// come from the same sources, compiled once each.
// Owns nothing. No CUDA header. Must not know models or configuration.
// Threads: thread-safe; the device is confined to one rank's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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

/// What may decide how a step of many rows is computed: the fastest way that was measured (kOff), the
/// same in every run (kRun), or the same whatever the number of rows (kStrict).
enum class Determinism : uint8_t { kOff, kRun, kStrict };

struct CudaOptions {
  std::string name = "cuda";   // of the device, for messages
  int device = 0;              // which of the machine's
  WorkerPool* pool = nullptr;  // packs weights; outlives the device
  Determinism determinism = Determinism::kOff;
  std::string tuning_folder;         // where measured choices are kept; empty: nowhere
  DType numbers = DType::kBFloat16;  // of activations and of weights that are no codes; or kFloat16
};

struct OpenedCuda {
  std::unique_ptr<Device> device;
  DeviceAbilities abilities;
  std::string kernels;                   // which GPU and kernels compute
  std::string note;                      // what an operator should know; empty: nothing
  std::function<DeviceMemory()> memory;  // as it is now; while the device lives
};

/// What a GPU's kernels compute, whether or not there is a GPU.
DeviceAbilities CudaAbilities(DType numbers);
/// As PlanningDevice::Packing; with and without a GPU.
size_t PlanCudaPacking(int64_t k, absl::Span<const LinearPart> parts, DType numbers,
                       WorkerPool& pool, std::vector<LinearSegment>& segments);

/// What a rank's part of the collective of `size` ranks takes of its device's memory.
size_t PeerCollectiveBytes(int32_t size);

// OpenCuda: UNAVAILABLE where there is no such device; the message says why and what to do.
// HasDriver: whether a GPU is meant to be used here, even where none can be.
// HeldDeviceBytes: of device memory that this process holds. GpusInUse: see backend/make_backend.h.
// MakePeerCollective: of ranks whose devices OpenCuda opened, which outlive it; UNAVAILABLE where they
// cannot reach each other's memory.
namespace kernels {
absl::StatusOr<OpenedCuda> OpenCuda(const CudaOptions& options);
bool HasDriver();
int64_t HeldDeviceBytes();
std::vector<std::string> GpusInUse();
absl::StatusOr<std::unique_ptr<Collective>> MakePeerCollective(absl::Span<Device* const> ranks,
                                                               absl::Duration patience);
}  // namespace kernels
namespace kernels_emulated {
absl::StatusOr<OpenedCuda> OpenCuda(const CudaOptions& options);
bool HasDriver();
int64_t HeldDeviceBytes();
std::vector<std::string> GpusInUse();
absl::StatusOr<std::unique_ptr<Collective>> MakePeerCollective(absl::Span<Device* const> ranks,
                                                               absl::Duration patience);
}  // namespace kernels_emulated

}  // namespace penstock
