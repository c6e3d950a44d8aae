#include "backend/thread_collective.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace penstock {

ThreadCollective::ThreadCollective(int32_t size, absl::Duration patience)
    : size_(size), patience_(patience), ranks_(size) {}

bool ThreadCollective::AllHere(uint64_t barrier) const {
  return std::all_of(ranks_.begin(), ranks_.end(), [&](const Rank& rank) {
    return rank.arrivals.load(std::memory_order_acquire) >= barrier;
  });
}

ThreadCollective::~ThreadCollective() { delete why_.load(); }

absl::Status ThreadCollective::Barrier(int32_t rank) {
  if (!ok()) return status();
  const uint64_t barrier = ranks_[rank].arrivals.fetch_add(1) + 1;
  bell_.Ring();
  return Await(barrier);
}

absl::Status ThreadCollective::Await(uint64_t barrier) {
  const auto done = [&] { return AllHere(barrier) || !ok(); };
  if (!SpinFor(std::chrono::microseconds(50), done) && !WaitPatiently(bell_, patience_, done)) {
    const absl::Status stalled = Stalled(barrier);
    if (!stalled.ok()) Abort(stalled);
  }
  // Whom the others have left behind with their sum must not use it.
  return status();
}

absl::Status ThreadCollective::Stalled(uint64_t barrier) const {
  std::vector<int32_t> missing;
  for (int32_t r = 0; r < size_; ++r) {
    if (ranks_[r].arrivals.load() < barrier) missing.push_back(r);
  }
  if (missing.empty()) return absl::OkStatus();  // the last one has just come
  return absl::DeadlineExceededError(absl::StrCat("rank ", absl::StrJoin(missing, ", "), " of ",
                                                  size_, " has stalled: no sign for ",
                                                  absl::FormatDuration(patience_)));
}

absl::Status ThreadCollective::AllReduceSum(int32_t rank, const Tensor& rows) {
  CHECK(rows.dtype == DType::kFloat32 && rows.stride == rows.cols);
  ranks_[rank].rows = rows;
  RETURN_IF_ERROR(Barrier(rank));
  // Each rank adds up a part, whole cache lines, and writes it to all.
  constexpr int64_t kLine = 16;
  const int64_t lines = (rows.rows * rows.cols + kLine - 1) / kLine;
  const int64_t begin = lines * rank / size_ * kLine;
  const int64_t end = std::min(rows.rows * rows.cols, lines * (rank + 1) / size_ * kLine);
  constexpr int64_t kRun = 1024;  // floats that stay in the first cache
  float sum[kRun];
  for (int64_t at = begin; at < end; at += kRun) {
    const int64_t n = std::min(kRun, end - at);
    const auto part = [&](int32_t r) { return static_cast<float*>(ranks_[r].rows.data) + at; };
    std::copy_n(part(0), n, sum);
    for (int32_t r = 1; r < size_; ++r) {
      const float* x = part(r);
      for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
    }
    for (int32_t r = 0; r < size_; ++r) std::copy_n(sum, n, part(r));
  }
  return Barrier(rank);
}

void ThreadCollective::Abort(const absl::Status& why) {
  const auto* reason = new absl::Status(why);
  const absl::Status* none = nullptr;
  if (!why_.compare_exchange_strong(none, reason)) delete reason;
  bell_.Ring();
}

absl::Status ThreadCollective::status() const {
  const absl::Status* why = why_.load(std::memory_order_acquire);
  return why == nullptr ? absl::OkStatus() : *why;
}

}  // namespace penstock
