// The CPU as a device: memory on huge pages where there are any, weights packed for the kernels in
// use.
// Owns nothing but its Ops and the chunk in which weights are put next; borrows the WorkerPool. Must not know models.
// Threads: confined to one rank's thread; work is spread over the pool.
#pragma once

#include <memory>
#include <string_view>

#include "backend/cpu/choose_kernels.h"
#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/huge_memory.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

class CpuDevice final : public Device {
 public:
  CpuDevice(WorkerPool* pool, const KernelChoice& kernels);

  std::string_view name() const override { return "cpu"; }
  Ops& ops() override { return ops_; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return MapMemory(bytes); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override { return MapMemory(bytes); }
  /// For what stays as long as the model.
  absl::StatusOr<DeviceBuffer> AllocateWeight(size_t bytes) { return weights_.Allocate(bytes); }
  bool shares_host_memory() const override { return true; }
  void CopyToDevice(void* device, const void* host, size_t bytes) override;
  void CopyOnDevice(void* to, const void* from, size_t bytes) override;
  void CopyToHost(void* host, const void* device, size_t bytes) override;
  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) override;
  const KernelChoice& kernels() const { return kernels_; }
  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  WorkerPool* pool_;
  KernelChoice kernels_;
  CpuOps ops_;
  WeightArena weights_;
};

}  // namespace penstock
