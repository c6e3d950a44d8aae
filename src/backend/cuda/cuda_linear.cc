// Products of linear layers: what a segment reads of the inputs, and where it writes.
#include <algorithm>

#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/cuda_types.h"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

bool IsAligned(const Tensor& x) {
  return x.dtype != DType::kFloat32 && reinterpret_cast<uintptr_t>(x.data) % kRowAlign == 0 &&
         x.stride * 2 % kRowAlign == 0;
}

bool TakesBytes(const LinearSegment& segment) {
  return CudaKindOf(segment) == CudaWeightKind::kInt8Rows;
}

}  // namespace

Tensor CudaOps::Aligned(const Tensor& x) {
  if (IsAligned(x)) return x;
  Tensor y = x;
  y.dtype = numbers_;
  y.stride = PlainRowBytes(x.cols, 2) / 2;
  y.data = aligned_.Of<uint16_t>(stream_, x.rows * y.stride);
  EmbedArgs e;
  e.table = x.data;
  e.table_stride = x.stride;
  e.y = y.data;
  e.y_stride = y.stride;
  e.rows = static_cast<int32_t>(x.rows);
  e.width = static_cast<int32_t>(x.cols);
  e.table_element = ElementOf(x.dtype);
  e.element = ElementOf(y.dtype);
  stream_.Enqueue("align", [&](cudaStream_t stream) { return LaunchEmbed(e, stream); });
  return y;
}

CudaOps::ByteRows CudaOps::RoomForBytes(int64_t rows, int64_t columns) {
  ByteRows out;
  out.stride = PlainRowBytes(columns, 1);
  out.data = bytes_.Of<int8_t>(stream_, rows * out.stride);
  out.scales = byte_scales_.Of<float>(stream_, rows);
  return out;
}

CudaOps::ByteRows CudaOps::RoundToBytes(const Tensor& x) {
  const ByteRows out = RoomForBytes(x.rows, x.cols);
  GatedArgs g;
  g.gate = {x.data, x.stride};
  g.y = {out.data, out.stride, out.scales};
  g.f = Gate::kNone;
  g.rows = static_cast<int32_t>(x.rows);
  g.width = static_cast<int32_t>(x.cols);
  g.element = ElementOf(x.dtype);
  stream_.Enqueue("round", [&](cudaStream_t stream) { return LaunchGated(g, stream); });
  return out;
}

void CudaOps::Linear(const LinearArgs& a) {
  if (a.x.rows == 0) return;
  if (a.x.dtype != numbers_ && a.x.dtype != DType::kFloat32)
    return NoKernel("Linear of inputs in other numbers than weights");
  const std::vector<LinearSegment>& segments = a.w->segments;
  ByteRows bytes;
  Tensor x = a.x;
  if (std::any_of(segments.begin(), segments.end(), TakesBytes)) bytes = RoundToBytes(a.x);
  if (!std::all_of(segments.begin(), segments.end(), TakesBytes)) x = Aligned(a.x);
  for (const LinearSegment& segment : segments) {
    GemmArgs g = GemmOf(*a.w, segment, ElementOf(numbers_));
    const Tensor y = ColumnsFrom(a.y, segment.row_begin, segment.num_rows);
    g.x = x.data;
    g.x_stride = x.stride;
    if (TakesBytes(segment)) {
      g.x = bytes.data;
      g.x_stride = bytes.stride;
      g.x_scales = bytes.scales;
    }
    g.y = y.data;
    g.y_stride = y.stride;
    g.accumulate = a.accumulate;
    g.scale = a.scale;
    g.soft_cap = a.soft_cap;
    g.m = static_cast<int32_t>(a.x.rows);
    g.y_element = ElementOf(a.y.dtype);
    products_.Multiply(g);
  }
}

}  // namespace penstock::PENSTOCK_KERNELS
