// A GPU as a device: its memory, copies in order with the operations, and weights in the order in
// which its kernels read them.
// Owns the stream and the operations; borrows the WorkerPool. Must not know models.
// Threads: confined to one rank's thread at a time; weights are packed on the pool.
#pragma once

#include <memory>
#include <string_view>

#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/cuda_stream.h"
#include "backend/cuda/weight_pack.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock::PENSTOCK_KERNELS {

class CudaDevice final : public Device {
 public:
  CudaDevice(std::unique_ptr<CudaStream> stream, const CudaOptions& options)
      : stream_(std::move(stream)),
        pool_(*options.pool),
        numbers_(WeightFormatOf(options.numbers)),
        ops_(stream_.get(), options) {}

  std::string_view name() const override { return stream_->name(); }
  Ops& ops() override { return ops_; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return stream_->Allocate(bytes); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override {
    return stream_->AllocateHost(bytes);
  }
  bool shares_host_memory() const override { return false; }
  void CopyToDevice(void* device, const void* host, size_t bytes) override;
  void CopyOnDevice(void* to, const void* from, size_t bytes) override;
  /// Waits for what was enqueued before.
  void CopyToHost(void* host, const void* device, size_t bytes) override;
  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) override;
  absl::Status Synchronize() override { return stream_->Synchronize(); }
  CudaStream& stream() { return *stream_; }
  const CudaProducts& products() const { return ops_.products(); }

 private:
  std::unique_ptr<CudaStream> stream_;
  WorkerPool& pool_;
  WeightFormat numbers_;  // of weights that are no codes
  CudaOps ops_;
};

}  // namespace penstock::PENSTOCK_KERNELS
