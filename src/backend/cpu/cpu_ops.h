// The operations on the CPU: cuts each into tiles for the pool and calls the kernels.
// Owns scratch. Must not know models. How work is cut never changes what an element is the sum of.
// Threads: confined to one rank's thread.
#pragma once

#include <vector>

#include "backend/cpu/kernels.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

class CpuOps final : public Ops {
 public:
  CpuOps(WorkerPool* pool, const CpuKernels& kernels) : pool_(pool), kernels_(kernels) {}

  void Embed(const Tensor& table, const BatchRows& batch, float scale, const Tensor& y) override;
  void RmsNorm(const NormArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void RopeAndCache(const RopeArgs& args, const BatchRows& batch) override;
  void Attention(const AttentionArgs& args, const BatchRows& batch) override;
  void GatedActivation(Activation f, const Tensor& x, const Tensor& y) override;
  void GatherRows(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& y) override;
  void Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
              absl::Span<SampledToken> tokens) override;
  void Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
             absl::Span<SampledToken> tokens) override;

 private:
  /// x as float: x itself, or a copy in `widened_`.
  const float* Widen(const Tensor& x, int64_t& stride);
  /// fn(row) for every row; `row_cost` is about the number of elements a row touches.
  template <class Fn>
  void ForRows(int64_t rows, int64_t row_cost, const Fn& fn);

  WorkerPool* pool_;
  const CpuKernels& kernels_;
  std::vector<float> widened_;
};

}  // namespace penstock
