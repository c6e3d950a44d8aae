// The collective of ranks that are CUDA streams: sums by our own kernels, over memory that all ranks'
// devices reach. Ranks on devices of their own wait for each other within one kernel each; ranks that
// share a device, whose kernels are not promised to run at once, are ordered by events and their
// kernels wait for nothing.
// Owns the memory through which rows are exchanged; borrows the streams. Must not know models.
// Threads: as Collective says.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backend/cuda/cuda_staging.h"
#include "backend/cuda/cuda_stream.h"
#include "backend/thread_collective.h"
#include "kernels/peer_reduce.h"

namespace penstock::PENSTOCK_KERNELS {

class PeerCollective final : public Collective {
 public:
  /// `ranks`: 2 to kMostRanks streams, which outlive this; all on one device, or each on its own.
  static absl::StatusOr<std::unique_ptr<PeerCollective>> Make(absl::Span<CudaStream* const> ranks,
                                                              absl::Duration patience);
  ~PeerCollective() override;

  int32_t size() const override { return threads_.size(); }
  absl::Duration patience() const override { return threads_.patience(); }
  absl::Status AllReduceSum(int32_t rank, const Tensor& rows) override;
  absl::Status Barrier(int32_t rank) override;
  void Abort(const absl::Status& why) override;
  absl::Status status() const override;
  bool ok() const override { return threads_.ok() && Missing() == 0; }

 private:
  struct Rank {
    CudaStream* stream = nullptr;
    DeviceBuffer memory;          // as PeerCollectiveBytes counts it
    cudaEvent_t reached[2] = {};  // recorded at barriers in turn
    uint32_t barriers = 0;
    uint32_t sums = 0;
  };

  PeerCollective(size_t size, absl::Duration patience)
      : threads_(static_cast<int32_t>(size), patience), ranks_(size) {}
  absl::Status Open();
  /// Of devices of their own: each reaches the others' memory.
  absl::Status EnablePeers();
  /// A piece of the rows, as much as there is room for.
  absl::Status Reduce(int32_t rank, float* rows, int64_t count);
  PeerReduceArgs ArgsOf(int32_t rank, float* rows, int64_t count) const;
  void Launch(int32_t rank, const PeerReduceArgs& args);
  /// A fault of the rank's device ends the others' work too.
  absl::Status Check(int32_t rank);
  /// The rank that a kernel has waited for in vain, plus 1; 0: none.
  uint32_t Missing() const {
    return abort_ == nullptr ? 0 : std::atomic_ref<uint32_t>(*abort_).load();
  }

  ThreadCollective threads_;  // of the host's side
  std::vector<Rank> ranks_;
  bool waits_in_kernels_ = false;
  PinnedMemory pinned_;
  uint32_t* abort_ = nullptr;  // in pinned_; null: no kernel waits
};

}  // namespace penstock::PENSTOCK_KERNELS
