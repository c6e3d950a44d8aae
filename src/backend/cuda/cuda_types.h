// The server's types as the kernels name them.
// Owns nothing. Must not know operations.
// Threads: value.
#pragma once

#include "absl/types/span.h"
#include "backend/cuda/code_layout.h"
#include "backend/cuda/weight_pack.h"
#include "kernels/gemm.h"
#include "penstock/backend.h"

namespace penstock::PENSTOCK_KERNELS {

/// Of activations and caches.
constexpr Element ElementOf(DType type) {
  switch (type) {
    case DType::kBFloat16:
      return Element::kBFloat16;
    case DType::kFloat16:
      return Element::kFloat16;
    case DType::kInt8:
      return Element::kInt8;
    default:
      return Element::kFloat32;
  }
}
constexpr int64_t BytesOf(Element element) {
  return element == Element::kFloat32 ? 4 : element == Element::kInt8 ? 1 : 2;
}

/// What a product has to know of a segment's weights; `x`: the element of the layer's inputs.
inline GemmArgs GemmOf(const PackedLinear& linear, const LinearSegment& segment, Element x) {
  const auto* base = static_cast<const std::byte*>(linear.weight.data()) + segment.byte_begin;
  const CudaWeightKind kind = CudaKindOf(segment);
  GemmArgs g;
  g.w = base;
  g.n = static_cast<int32_t>(segment.num_rows);
  g.k = static_cast<int32_t>(linear.k);
  g.element = kind == CudaWeightKind::kInt8Rows ? Element::kInt8 : x;
  if (kind != CudaWeightKind::kRows && segment.group == 0) {
    const CudaWeightPlace place = PlaceOf(segment, linear.k);
    g.w_scales = reinterpret_cast<const float*>(base + place.scales_begin);
  }
  if (linear.bias.data() != nullptr)
    g.bias = static_cast<const float*>(linear.bias.data()) + segment.row_begin;
  g.has_codes = kind == CudaWeightKind::kTiles;
  if (g.has_codes) g.layout = CodeLayoutOf(segment);
  return g;
}

inline Tensor ColumnsFrom(const Tensor& t, int64_t begin, int64_t cols) {
  Tensor view = t;
  view.data = static_cast<std::byte*>(t.data) + begin * static_cast<int64_t>(DTypeSize(t.dtype));
  view.cols = cols;
  return view;
}

}  // namespace penstock::PENSTOCK_KERNELS
