// Codes of a quantised panel -> floats as the float kernels read them: lanes run over outputs.
// Included by kernels_avx2.cc and kernels_avx512.cc only (through gemm_kernel.h).
// Owns nothing. Must not know models or batches.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kPanelVectors = 4;
constexpr int kPanelRows = kPanelVectors * kLanes;

/// Scales [i, i + kLanes) of an array of `type`.
inline V LoadScales(DType type, const void* scales, int64_t i) {
  switch (type) {
    case DType::kFloat8E8M0:
      return PowersOfTwo(LoadBytes(static_cast<const uint8_t*>(scales) + i));
    case DType::kBFloat16:
      return Load(static_cast<const Bf16*>(scales) + i);
    case DType::kFloat16:
      return Load(static_cast<const Fp16*>(scales) + i);
    default:
      return Load(static_cast<const float*>(scales) + i);
  }
}

struct CodeNumber {
  V center;
  V operator()(VBits code) const { return ToFloat(code) - center; }
};
struct Book16Number {
  const float* book;
  V operator()(VBits code) const { return Pick16(book, code); }
};
struct Book256Number {
  const float* book;
  V operator()(VBits code) const { return Gather(book, code); }
};

template <bool kPaired, class Number>
void ExpandWith(const CodePanel& a, const Number& number, int64_t begin, int64_t depth,
                float* out) {
  const VBits mask = Set1Bits(kPaired ? 15 : 255);
  const auto* codes = static_cast<const uint8_t*>(a.codes);
  const int64_t end = begin + depth;
  for (int64_t k = begin; k < end;) {
    const int64_t group = k / a.group;
    const int64_t group_end = (group + 1) * a.group < end ? (group + 1) * a.group : end;
    V scales[kPanelVectors];
    V offsets[kPanelVectors];
    const auto* group_codes = codes + group * a.group_gap;
    const auto* group_scales = static_cast<const char*>(a.scales) + group * a.scales_stride;
    for (int v = 0; v < kPanelVectors; ++v) {
      scales[v] = LoadScales(a.scale_type, group_scales, v * kLanes);
      offsets[v] = Zero();
    }
    if (a.offsets != nullptr) {
      const auto* group_offsets = static_cast<const char*>(a.offsets) + group * a.offsets_stride;
      for (int v = 0; v < kPanelVectors; ++v) {
        offsets[v] = LoadScales(a.offset_type, group_offsets, v * kLanes);
      }
    }
    constexpr int kColumns = kPaired ? 8 : 4;  // of a unit
    for (; k % kColumns == 0 && k + kColumns <= group_end; k += kColumns) {
      const uint8_t* unit = group_codes + k / kColumns * kPanelRows * kUnitBytes;
      for (int v = 0; v < kPanelVectors; ++v) {
        const VBits all = LoadBits(unit + v * kLanes * kUnitBytes);
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) {
          const VBits code = And(ShiftRight(all, PlaceOfCode(kPaired ? 4 : 8, c).shift), mask);
          Store(out + c * kPanelRows + v * kLanes, scales[v] * number(code) + offsets[v]);
        }
      }
      out += kColumns * kPanelRows;
    }
    for (; k < group_end; ++k) {  // of a unit that two groups or two passes share
      const CodePlace place = PlaceOfCode(kPaired ? 4 : 8, k);
      const uint8_t* unit = group_codes + place.unit * kPanelRows * kUnitBytes;
      for (int v = 0; v < kPanelVectors; ++v, out += kLanes) {
        const VBits four = LoadBits(unit + v * kLanes * kUnitBytes);
        Store(out, scales[v] * number(And(ShiftRight(four, place.shift), mask)) + offsets[v]);
      }
    }
  }
}

/// Columns [begin, begin + depth) of a panel: [depth, kPanelRows].
void ExpandCodes(const CodePanel& a, bool paired, int64_t begin, int64_t depth, float* out) {
  if (a.book == nullptr) {
    const CodeNumber number{Set1(static_cast<float>(a.center))};
    if (paired) {
      ExpandWith<true>(a, number, begin, depth, out);
    } else {
      ExpandWith<false>(a, number, begin, depth, out);
    }
  } else if (paired) {
    ExpandWith<true>(a, Book16Number{a.book}, begin, depth, out);
  } else {
    ExpandWith<false>(a, Book256Number{a.book}, begin, depth, out);
  }
}

}  // namespace
}  // namespace penstock
