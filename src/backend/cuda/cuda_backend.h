// Opens a CUDA device: the real one, or the emulated one that runs the same kernels on the CPU. Both
// come from the same sources, compiled once each.
// Owns nothing. No CUDA header. Must not know models or configuration.
// Threads: thread-safe; the device is confined to one rank's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backend/device_abilities.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

struct CudaOptions {
  std::string name = "cuda";   // of the device, for messages
  int device = 0;              // which of the machine's
  WorkerPool* pool = nullptr;  // packs weights; outlives the device
};

struct OpenedCuda {
  std::unique_ptr<Device> device;
  DeviceAbilities abilities;
  std::string kernels;  // which GPU and kernels compute
};

// OpenCuda: UNAVAILABLE where there is no such device; the message says why and what to do.
namespace kernels {
absl::StatusOr<OpenedCuda> OpenCuda(const CudaOptions& options);
}
namespace kernels_emulated {
absl::StatusOr<OpenedCuda> OpenCuda(const CudaOptions& options);
}

}  // namespace penstock
