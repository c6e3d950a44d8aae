#include "kernels/dequant.h"
#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kDequantThreads = 256;
constexpr int kTogether = 8;  // columns that a thread writes together

/// What a stored code stands for, before its scale.
__device__ float NumberOf(const CodeLayout& layout, const unsigned char* codes, int row,
                          int column) {
  const CodeSpot spot = SpotOfCode(layout.bits, row, column);
  const int stored = codes[spot.byte];
  if (layout.bits == 4) {
    const int code = stored >> spot.shift & 15;
    if (!layout.floats) return static_cast<float>(code - layout.center);
    const auto bits = static_cast<uint32_t>(code);  // as a float whose exponent is too small by 126
    return __fmul_rn(__uint_as_float((bits & 8) << 28 | (bits & 7) << 22), 0x1p126f);
  }
  const int code = stored ^ 0x80;
  if (!layout.floats) return static_cast<float>(code - layout.center);
  const auto bits = static_cast<uint32_t>(code);  // as a float whose exponent is too small by 120
  return __fmul_rn(__uint_as_float((bits & 0x80) << 24 | (bits & 0x7f) << 20), 0x1p120f);
}

/// One step of one tile.
template <class T>
__global__ void __launch_bounds__(kDequantThreads) DequantKernel(DequantArgs a) {
  SHARED_ARRAY(unsigned char, step, kCodeBytes + kMostScaleBytes);
  const CodeLayout& layout = a.layout;
  const int64_t tile = a.row_begin / kTileRows + blockIdx.y;
  const auto* from = static_cast<const unsigned char*>(a.codes) +
                     (tile * gridDim.x + blockIdx.x) * layout.step_bytes();
  for (int i = threadIdx.x * kRowAlign; i < layout.step_bytes(); i += kDequantThreads * kRowAlign) {
    *reinterpret_cast<uint4*>(step + i) = *reinterpret_cast<const uint4*>(from + i);
  }
  PdlTrigger();
  PdlWait();
  __syncthreads();
  const unsigned char* scales = step + kCodeBytes;
  const unsigned char* offsets = scales + layout.scales_bytes();
  const int chunks = layout.step_columns() / kTogether;
  for (int i = threadIdx.x; i < kTileRows * chunks; i += kDequantThreads) {
    const int row = i / chunks;
    const int column = i % chunks * kTogether;
    const int32_t at = blockIdx.x * layout.step_columns() + column;
    const int32_t y_row = blockIdx.y * kTileRows + row;
    if (y_row >= a.num_rows || at >= a.k) continue;
    const int group = layout.groups() > 1 ? column / layout.group : 0;
    const float scale = layout.group == 0
                            ? a.row_scales[a.row_begin + y_row]
                            : ScaleAt(layout.scale_kind, scales, group * kTileRows + row);
    float values[kTogether];
    for (int c = 0; c < kTogether; ++c) {
      values[c] = __fmul_rn(scale, NumberOf(layout, step, row, column + c));
    }
    if (layout.offset_kind != ScaleKind::kNone) {
      const float offset = ScaleAt(layout.offset_kind, offsets, group * kTileRows + row);
      for (float& v : values) v = __fadd_rn(v, offset);
    }
    T* y = static_cast<T*>(a.y) + y_row * a.y_stride + at;
    if (at + kTogether <= a.k) {
      Store(y, values);
    } else {
#pragma unroll
      for (int c = 0; c < kTogether; ++c) {
        if (at + c < a.k) y[c] = FromFloat<T>(values[c]);
      }
    }
  }
}

/// An element of a weight in tiles.
__device__ float ElementAt(const EmbedCodesArgs& a, int32_t row, int32_t column) {
  const CodeLayout& layout = a.layout;
  const int32_t in_tile = row % kTileRows;
  const int32_t in_step = column % layout.step_columns();
  const int64_t step =
      int64_t{row / kTileRows} * layout.steps(a.k) + column / layout.step_columns();
  const auto* codes = static_cast<const unsigned char*>(a.codes) + step * layout.step_bytes();
  const unsigned char* scales = codes + kCodeBytes;
  const int32_t group = layout.groups() > 1 ? in_step / layout.group : 0;
  const int32_t at = group * kTileRows + in_tile;
  const float scale =
      layout.group == 0 ? a.row_scales[row] : ScaleAt(layout.scale_kind, scales, at);
  const float v = __fmul_rn(scale, NumberOf(layout, codes, in_tile, in_step));
  if (layout.offset_kind == ScaleKind::kNone) return v;
  return __fadd_rn(v, ScaleAt(layout.offset_kind, scales + layout.scales_bytes(), at));
}

template <class T>
__global__ void __launch_bounds__(kDequantThreads) EmbedCodesKernel(EmbedCodesArgs a) {
  PdlTrigger();
  PdlWait();
  const int32_t id = a.ids[blockIdx.x];
  const auto* bytes = static_cast<const int8_t*>(a.codes) + id * PlainRowBytes(a.k, 1);
  T* y = static_cast<T*>(a.y) + blockIdx.x * a.y_stride;
  for (int32_t i = threadIdx.x; i < a.k; i += kDequantThreads) {
    float v = a.plain_rows ? __fmul_rn(a.row_scales[id], static_cast<float>(bytes[i]))
                           : ElementAt(a, id, i);
    if (a.scale != 1.0f) v = __fmul_rn(v, a.scale);
    if (a.accumulate) v = __fadd_rn(v, ToFloat(y[i]));
    y[i] = FromFloat<T>(v);
  }
}

}  // namespace

cudaError_t LaunchEmbedCodes(const EmbedCodesArgs& a, cudaStream_t stream) {
  if (!a.plain_rows && !a.layout.is_valid()) return cudaErrorInvalidValue;
  if (a.rows == 0) return cudaSuccess;
  const KernelShape shape{"embed_codes", dim3(a.rows), dim3(kDequantThreads), 0, stream};
  return ForElement(a.element, [&](auto* type) {
    return Launch(shape, EmbedCodesKernel<std::remove_pointer_t<decltype(type)>>, a);
  });
}

cudaError_t LaunchDequant(const DequantArgs& a, cudaStream_t stream) {
  if (!a.layout.is_valid()) return cudaErrorInvalidValue;
  if (a.num_rows == 0) return cudaSuccess;
  const KernelShape shape{"dequant",
                          dim3(a.layout.steps(a.k), (a.num_rows + kTileRows - 1) / kTileRows),
                          dim3(kDequantThreads), 0, stream};
  return a.element == Element::kBFloat16 ? Launch(shape, DequantKernel<__nv_bfloat16>, a)
                                         : Launch(shape, DequantKernel<__half>, a);
}

}  // namespace penstock::PENSTOCK_KERNELS
