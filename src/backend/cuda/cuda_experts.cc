// Mixtures of experts: lists of visits, and two grouped products with the gate between them.
#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/cuda_types.h"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

bool AreAlike(const LinearSegment& a, const LinearSegment& b) {
  return a.format == b.format && a.row_begin == b.row_begin && a.num_rows == b.num_rows &&
         a.group == b.group && a.center == b.center && a.has_book == b.has_book &&
         a.has_offset == b.has_offset && a.integer_input == b.integer_input &&
         a.scale_type == b.scale_type && a.offset_type == b.offset_type;
}

bool AreAlike(const PackedLinear& a, const PackedLinear& b) {
  return a.n == b.n && a.k == b.k && (a.bias.data() == nullptr) == (b.bias.data() == nullptr) &&
         std::equal(a.segments.begin(), a.segments.end(), b.segments.begin(), b.segments.end(),
                    [](const LinearSegment& x, const LinearSegment& y) { return AreAlike(x, y); });
}

bool TakesBytesAlone(const PackedLinear& linear) {
  return std::all_of(linear.segments.begin(), linear.segments.end(), [](const LinearSegment& s) {
    return CudaKindOf(s) == CudaWeightKind::kInt8Rows;
  });
}
bool TakesBytesSomewhere(const PackedLinear& linear) {
  return std::any_of(linear.segments.begin(), linear.segments.end(), [](const LinearSegment& s) {
    return CudaKindOf(s) == CudaWeightKind::kInt8Rows;
  });
}

}  // namespace

ExpertList CudaOps::ListVisits(const ExpertsArgs& a, const ExpertRun& run, int32_t block_rows) {
  ExpertListArgs l;
  l.ids = a.ids;
  l.visits = static_cast<int32_t>(a.x.rows) * a.num_slots;
  l.first_expert = run.first;
  l.num_experts = run.count;
  l.block_rows = block_rows;
  l.list.order = visits_.Of<int32_t>(stream_, l.visits);
  l.list.blocks = visit_blocks_.Of<int32_t>(
      stream_, int64_t{3} * MostExpertBlocks(l.visits, run.count, block_rows));
  l.list.num_blocks = num_blocks_.Of<int32_t>(stream_, 1);
  stream_.Enqueue("expert list", [&](cudaStream_t stream) { return LaunchExpertList(l, stream); });
  return l.list;
}

void CudaOps::ExpertProducts(const ExpertsArgs& a, const ExpertRun& run, bool down, const Tensor& x,
                             const ByteRows* bytes, const ExpertList& list, int32_t block_rows,
                             const Tensor& y) {
  const auto of = [&](int32_t e) -> const PackedLinear& {
    const ExpertWeights& expert = a.experts[run.first + e];
    return down ? expert.down : expert.gate_up;
  };
  std::vector<const void*> weights(run.count);
  std::vector<const float*> scales(run.count);
  std::vector<const float*> bias(run.count);
  for (size_t s = 0; s < of(0).segments.size(); ++s) {
    for (int32_t e = 0; e < run.count; ++e) {
      const GemmArgs own = GemmOf(of(e), of(e).segments[s], ElementOf(x.dtype));
      weights[e] = own.w;
      scales[e] = own.w_scales;
      bias[e] = own.bias;
    }
    const LinearSegment& segment = of(0).segments[s];
    ExpertPointers& pointers = expert_pointers_[{a.experts.data(), run.first, down, s}];
    ExpertGemmArgs p;
    p.gemm = GemmOf(of(0), segment, ElementOf(x.dtype));
    p.weights = pointers.weights.Send(staging_, weights);
    if (scales[0] != nullptr) p.w_scales = pointers.scales.Send(staging_, scales);
    if (bias[0] != nullptr) p.bias = pointers.bias.Send(staging_, bias);
    p.gemm.x = x.data;
    p.gemm.x_stride = x.stride;
    if (CudaKindOf(segment) == CudaWeightKind::kInt8Rows) {
      p.gemm.x = bytes->data;
      p.gemm.x_stride = bytes->stride;
      p.gemm.x_scales = bytes->scales;
    }
    const Tensor part = ColumnsFrom(y, segment.row_begin, segment.num_rows);
    p.gemm.y = part.data;
    p.gemm.y_stride = part.stride;
    p.gemm.y_element = ElementOf(part.dtype);
    p.gemm.m = static_cast<int32_t>(x.rows);
    p.list = list;
    p.block_rows = block_rows;
    p.x_slots = down ? 1 : a.num_slots;
    p.ctas = ctas_;
    stream_.Enqueue("experts", [&](cudaStream_t stream) { return LaunchExpertGemm(p, stream); });
  }
}

void CudaOps::Experts(const ExpertsArgs& a) {
  const int64_t visits = a.x.rows * a.num_slots;
  if (visits == 0) return;
  if (a.x.dtype != numbers_) return NoKernel("Experts of inputs in other numbers than weights");
  const auto num_experts = static_cast<int32_t>(a.experts.size());
  const int32_t block_rows = ExpertBlockRows(static_cast<int32_t>(a.x.rows));
  const Tensor out = {out_.Of<float>(stream_, visits * a.y.cols), DType::kFloat32, visits, a.y.cols,
                      a.y.cols};
  ExpertRun run;
  for (run.first = 0; run.first < num_experts; run.first += run.count) {
    const ExpertWeights& w = a.experts[run.first];
    run.count = 1;
    while (run.first + run.count < num_experts) {
      const ExpertWeights& next = a.experts[run.first + run.count];
      if (!AreAlike(w.gate_up, next.gate_up) || !AreAlike(w.down, next.down)) break;
      ++run.count;
    }
    const ExpertList list = ListVisits(a, run, block_rows);
    const int64_t inner = w.down.k;
    Tensor wide = {nullptr, a.x.dtype, visits, w.gate_up.n, PlainRowBytes(w.gate_up.n, 2) / 2};
    wide.data = wide_.Of<uint16_t>(stream_, visits * wide.stride);
    ByteRows bytes;
    if (TakesBytesSomewhere(w.gate_up)) bytes = RoundToBytes(a.x);
    const Tensor x = TakesBytesAlone(w.gate_up) ? a.x : Aligned(a.x);
    ExpertProducts(a, run, false, x, &bytes, list, block_rows, wide);
    ActivationArgs activation = a.activation;
    activation.gate = activation.y = ColumnsFrom(wide, 0, inner);
    activation.up = ColumnsFrom(wide, inner, inner);
    Activate(activation);
    if (TakesBytesSomewhere(w.down)) bytes = RoundToBytes(activation.y);
    ExpertProducts(a, run, true, activation.y, &bytes, list, block_rows, out);
  }
  SumExperts({out, a.weights, a.num_slots, a.y});
}

void CudaOps::SumExperts(const penstock::ExpertSumArgs& a) {
  if (a.y.rows == 0) return;
  ExpertSumArgs sum;
  sum.out = static_cast<const float*>(a.x.data);
  sum.weights = a.weights;
  sum.y = a.y.data;
  sum.y_stride = a.y.stride;
  sum.rows = static_cast<int32_t>(a.y.rows);
  sum.slots = a.num_slots;
  sum.width = static_cast<int32_t>(a.y.cols);
  sum.element = ElementOf(a.y.dtype);
  stream_.Enqueue("expert sum", [&](cudaStream_t stream) { return LaunchExpertSum(sum, stream); });
}

}  // namespace penstock::PENSTOCK_KERNELS
