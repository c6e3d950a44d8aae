// The collective of ranks that are threads of one process and share its memory. It has no lock: one
// that stands still, wherever it does, is one that does not come.
// Owns its counts; the rows are the ranks'. Must not know models.
// Threads: as Collective says.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "backend/collective.h"
#include "base/patient_wait.h"

namespace penstock {

class ThreadCollective final : public Collective {
 public:
  /// A rank that the others have waited `patience` for has stalled, and is named by their error. Time
  /// in which the whole machine stood still does not count.
  explicit ThreadCollective(int32_t size, absl::Duration patience = absl::Seconds(4));

  ~ThreadCollective() override;

  int32_t size() const override { return size_; }
  absl::Duration patience() const override { return patience_; }
  absl::Status AllReduceSum(int32_t rank, const Tensor& rows) override;
  absl::Status Barrier(int32_t rank) override;
  void Abort(const absl::Status& why) override;
  absl::Status status() const override;
  bool ok() const override { return why_.load(std::memory_order_acquire) == nullptr; }

 private:
  struct alignas(64) Rank {
    std::atomic<uint64_t> arrivals{0};  // barriers that it has come to
    Tensor rows;                        // of the sum in progress; its own until a barrier
  };

  bool AllHere(uint64_t barrier) const;
  absl::Status Await(uint64_t barrier);
  absl::Status Stalled(uint64_t barrier) const;

  const int32_t size_;
  const absl::Duration patience_;
  std::vector<Rank> ranks_;
  Bell bell_;                                      // rung at arrivals and aborts
  std::atomic<const absl::Status*> why_{nullptr};  // owned; set once
};

}  // namespace penstock
