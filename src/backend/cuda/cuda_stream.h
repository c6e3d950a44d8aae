// One CUDA device as the backend drives it: a stream, device memory and an account of it, and the
// first fault, which stays.
// Owns the stream. Must not know operations or models.
// Threads: confined to one rank's thread at a time; the account is thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/device_memory.h"
#include "kernels/runtime.h"
#include "penstock/backend.h"

namespace penstock::PENSTOCK_KERNELS {

/// Bytes of device memory that this process holds.
int64_t HeldDeviceBytes();
/// PCI addresses of the GPUs on which this process has streams, in order.
std::vector<std::string> GpusInUse();

class CudaStream {
 public:
  /// UNAVAILABLE where the device cannot be used.
  static absl::StatusOr<std::unique_ptr<CudaStream>> Open(const std::string& name, int device);
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;

  const std::string& name() const { return name_; }
  int device() const { return device_; }
  const cudaDeviceProp& properties() const { return properties_; }

  /// Calls launch(stream), which says how it went, unless something has failed before.
  template <class Launch>
  void Enqueue(const char* what, const Launch& launch) {
    if (MakeCurrent()) Note(what, launch(stream_));
  }
  /// From here on nothing runs; the first fault is kept.
  void Fail(absl::Status fault);
  bool ok() const { return fault_.ok(); }
  const absl::Status& fault() const { return fault_; }

  /// Zeroed, in order with what was enqueued. RESOURCE_EXHAUSTED where there is no room, which is no
  /// fault.
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes);
  /// Zeroed, pinned memory of the host. RESOURCE_EXHAUSTED likewise.
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes);
  /// What is enqueued from here on begins after all before has ended: for kernels that read, before
  /// PdlWait, what another has written.
  void Fence();
  DeviceMemory Memory();
  /// Waits for what was enqueued.
  absl::Status Synchronize();

 private:
  CudaStream() = default;
  bool MakeCurrent();
  void Note(const char* what, cudaError_t error);

  std::string name_;
  int device_ = 0;
  cudaDeviceProp properties_{};
  std::string address_;  // PCI; empty: unknown
  cudaStream_t stream_ = nullptr;
  DeviceBuffer fence_;  // a word
  absl::Status fault_;
};

}  // namespace penstock::PENSTOCK_KERNELS
