// The operations on the CPU: cuts each into tiles for the pool and calls the kernels.
// Owns scratch. Must not know models. How work is cut never changes what an element is the sum of.
// Threads: confined to one rank's thread.
#pragma once

#include <algorithm>
#include <vector>

#include "backend/cpu/choose_kernels.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/pack_linear.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

/// Whether activations are bfloat16; else they are float32.
bool CpuIsBf16(DType dtype);
/// This thread's scratch, at least `floats` of it, 64-byte aligned; contents are undefined.
float* CpuThreadScratch(int64_t floats);

/// Room for the integer inputs of a linear layer's segments.
class QuantizedRowsBuffer {
 public:
  /// The first row's place; valid until the next call.
  QuantizeRowArgs Reserve(int64_t columns, int64_t groups);

 private:
  std::vector<int8_t> q_;
  std::vector<int16_t> words_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_, starts_;
};

class CpuOps final : public Ops {
 public:
  CpuOps(WorkerPool* pool, const KernelChoice& choice)
      : pool_(pool), choice_(choice), kernels_(*choice.plain) {}

  void Embed(const EmbedArgs& args) override;
  void Norm(const NormArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void RopeAndCache(const RopeArgs& args, const BatchRows& batch) override;
  void Attention(const AttentionArgs& args, const BatchRows& batch) override;
  void Encode(const EncodeArgs& args, const BatchRows& batch) override;
  void Activate(const ActivationArgs& args) override;
  void Route(const RouteArgs& args) override;
  void Experts(const ExpertsArgs& args) override;
  void SumExperts(const ExpertSumArgs& args) override;
  void DeltaRule(const DeltaArgs& args, const BatchRows& batch) override;
  void GatherRows(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& y) override;
  void Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
              absl::Span<SampledToken> tokens) override;
  void Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
             absl::Span<SampledToken> tokens) override;

 private:
  /// Panels [first_panel, first_panel + layout.num_panels) of a linear layer.
  struct SegmentRun {
    const LinearSegment* segment;
    SegmentLayout layout;
    int64_t first_panel;
    const float* x;  // [m, k] in the order of the segment's columns; null: all take bfloat16
    int64_t x_stride;
    QuantizedInput input;  // in place of x where the segment wants it
  };

  /// Whether a segment is multiplied with bfloat16 inputs as they are.
  bool TakesBf16(const LinearSegment& segment, DType inputs) const;
  /// Fills `runs_`; the number of panels in all.
  int64_t FindRuns(const LinearArgs& args);
  /// Fills the runs' `input` from their m rows of x.
  void QuantizeInputs(int64_t m, int64_t k);
  /// Panels [begin, end) for p.m rows of x from `row` on.
  void LinearTile(const LinearArgs& args, GemmPanelArgs p, int64_t row, int64_t begin, int64_t end);
  /// x as float: x itself, or a copy in `widened_`.
  const float* Widen(const Tensor& x, int64_t& stride);
  /// fn(row) for every row; `row_cost` is about the number of elements a row touches.
  template <class Fn>
  void ForRows(int64_t rows, int64_t row_cost, const Fn& fn) {
    constexpr int64_t kTileElements = 8192;  // below, a tile is not worth handing over
    const int64_t per_tile = std::max<int64_t>(1, kTileElements / std::max<int64_t>(1, row_cost));
    pool_->ParallelFor((rows + per_tile - 1) / per_tile, [&](int64_t tile) {
      const int64_t end = std::min(rows, (tile + 1) * per_tile);
      for (int64_t row = tile * per_tile; row < end; ++row) fn(row);
    });
  }

  /// delta_in_ -> delta_conv_, with q and k of unit length; the states' inputs move on.
  void Convolve(const DeltaArgs& args, const BatchRows& batch);
  /// One value head over one sequence's rows: delta_conv_ -> delta_out_.
  void Recur(const DeltaArgs& args, const SequenceRows& rows, int32_t head);

  WorkerPool* pool_;
  KernelChoice choice_;        // of products
  const CpuKernels& kernels_;  // of everything else
  std::vector<float> widened_, reordered_;
  std::vector<SegmentRun> runs_;
  QuantizedRowsBuffer inputs_;
  std::vector<std::vector<int32_t>> visits_;  // of Experts, per expert
  std::vector<float> expert_in_, expert_wide_, expert_down_, expert_out_;
  std::vector<float> encode_kv_;
  std::vector<float> delta_in_, delta_conv_, delta_out_;
};

}  // namespace penstock
