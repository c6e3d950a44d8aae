// How the codes of a packed segment lie, as the kernels name it.
// Owns nothing. Must not know operations, parts or files.
// Threads: value.
#pragma once

#include "kernels/weight_layout.h"
#include "penstock/backend.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr ScaleKind ScaleKindOf(DType type) {
  return type == DType::kFloat16    ? ScaleKind::kFloat16
         : type == DType::kBFloat16 ? ScaleKind::kBFloat16
                                    : ScaleKind::kFloat32;
}

inline CodeLayout CodeLayoutOf(const LinearSegment& segment) {
  CodeLayout layout;
  layout.bits = segment.format == WeightFormat::kCodes4 ? 4 : 8;
  layout.center = segment.center;
  layout.group = static_cast<int32_t>(segment.group);
  layout.floats = segment.has_book;
  if (segment.group != 0) layout.scale_kind = ScaleKindOf(segment.scale_type);
  if (segment.has_offset) layout.offset_kind = ScaleKindOf(segment.offset_type);
  return layout;
}

}  // namespace penstock::PENSTOCK_KERNELS
