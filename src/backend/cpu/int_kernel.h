// Sums of integer products of quantised inputs and codes: lanes run over outputs, four columns a
// lane at a time. Included by the kernels_*.cc only (through gemm_kernel.h).
// Owns nothing. Must not know models or batches.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/code_kernel.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

/// Four bytes of x, in every lane.
inline VBits LoadInput(const void* x) {
  int32_t bytes;
  __builtin_memcpy(&bytes, x, sizeof bytes);
  return Set1Bits(bytes);
}

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
constexpr bool kWordInputs = false;
using Input8 = int8_t;
#if defined(__AVX512VNNI__)
#define PENSTOCK_DOT_BYTES "vpdpbusd %2, %1, %0"
#else
#define PENSTOCK_DOT_BYTES "%{vex%} vpdpbusd %2, %1, %0"
#endif
/// sums + products of four bytes a lane. Of the intrinsic the compiler keeps the sums in memory.
inline __attribute__((always_inline)) void DotBytes(VBits codes, VBits x, VBits& sums) {
  asm(PENSTOCK_DOT_BYTES : "+v"(sums) : "v"(codes), "v"(x));
}
#undef PENSTOCK_DOT_BYTES

/// The two halves of a unit of codes of 4 bits: its first four columns and its next.
template <int kVectors>
inline __attribute__((always_inline)) void LoadHalves(const uint8_t* codes,
                                                      VBits (&first)[kVectors],
                                                      VBits (&second)[kVectors]) {
  const VBits low = Set1Bits(0x0f0f0f0f);
  for (int v = 0; v < kVectors; ++v) {
    const VBits w = LoadBits(codes + v * kLanes * kUnitBytes);
    first[v] = And(w, low);
    second[v] = And(ShiftRight(w, 4), low);
  }
}

/// acc[r][v] += codes of 8 bits of `units` units, from `codes` on, times rows of x.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnits8(const uint8_t* codes, const int8_t* x,
                                                     int64_t x_stride, int64_t units,
                                                     VBits (&acc)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int64_t u = 0; u < units; ++u, codes += kPanelRows * kUnitBytes, x += 4) {
    VBits w[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      w[v] = LoadBits(codes + v * kLanes * kUnitBytes);
      asm("" : "+v"(w[v]));  // else each row loads it again
    }
    for (int r = 0; r < kRows; ++r) {
      const VBits four = LoadInput(x + r * x_stride);
      for (int v = 0; v < kVectors; ++v) DotBytes(w[v], four, acc[r][v]);
    }
  }
}

/// The same of 4 bits.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnits4(const uint8_t* codes, const int8_t* x,
                                                     int64_t x_stride, int64_t units,
                                                     VBits (&acc)[kRows][kVectors]) {
#pragma GCC unroll 4
  for (int64_t u = 0; u < units; ++u, codes += kPanelRows * kUnitBytes, x += 8) {
    VBits first[kVectors], second[kVectors];
    LoadHalves(codes, first, second);
    for (int r = 0; r < kRows; ++r) {
      const VBits four = LoadInput(x + r * x_stride);
      for (int v = 0; v < kVectors; ++v) DotBytes(first[v], four, acc[r][v]);
      const VBits next = LoadInput(x + r * x_stride + 4);
      for (int v = 0; v < kVectors; ++v) DotBytes(second[v], next, acc[r][v]);
    }
  }
}
#else
constexpr bool kWordInputs = true;
using Input8 = int16_t;

/// acc[r][v] += half the codes of a unit of 8 bits times two words of each row of x. The empty asm
/// keeps the sums in their registers: left alone, the compiler adds products of both halves first
/// and has too few.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumHalf8(const VBits (&w)[kVectors], const int16_t* x,
                                                    int64_t x_stride,
                                                    VBits (&acc)[kRows][kVectors]) {
  for (int r = 0; r < kRows; ++r) {
    const VBits two = LoadInput(x + r * x_stride);
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = Add32(acc[r][v], MultiplyPairs16(w[v], two));
      asm("" : "+v"(acc[r][v]));
    }
  }
}

/// acc[r][v] += codes of 8 bits of `units` units, from `codes` on, times rows of x in words, as
/// PlaceOfWord has them. Bytes would overflow 16 bits in pairs.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnits8(const uint8_t* codes, const int16_t* x,
                                                     int64_t x_stride, int64_t units,
                                                     VBits (&acc)[kRows][kVectors]) {
  const VBits even = Set1Bits(0x00ff00ff);
  for (int64_t u = 0; u < units; ++u, codes += kPanelRows * kUnitBytes, x += 4) {
    VBits half[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      half[v] = And(LoadBits(codes + v * kLanes * kUnitBytes), even);
    }
    SumHalf8(half, x, x_stride, acc);
    for (int v = 0; v < kVectors; ++v) {
      half[v] = HighBytes(LoadBits(codes + v * kLanes * kUnitBytes));
    }
    SumHalf8(half, x + 2, x_stride, acc);
  }
}

/// As SumHalf8, of four columns of codes of 4 bits, in words.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumHalf4(const VBits (&w)[kVectors], const int8_t* x,
                                                    int64_t x_stride,
                                                    VBits (&words)[kRows][kVectors]) {
  for (int r = 0; r < kRows; ++r) {
    const VBits four = LoadInput(x + r * x_stride);
    for (int v = 0; v < kVectors; ++v) {
      words[r][v] = Add16(words[r][v], MultiplyPairs8(w[v], four));
      asm("" : "+v"(words[r][v]));
    }
  }
}

/// The same of 4 bits, unsigned. 32 columns of products fit 16 bits: a half lane takes 16 of them,
/// and 16 * 15 * 127 < 2^15.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnits4(const uint8_t* codes, const int8_t* x,
                                                     int64_t x_stride, int64_t units,
                                                     VBits (&acc)[kRows][kVectors]) {
  constexpr int64_t kUnitsOf16 = 4;
  const VBits ones = Set1Bits(0x00010001);
  const VBits low = Set1Bits(0x0f0f0f0f);
  while (units > 0) {
    const int64_t some = units < kUnitsOf16 ? units : kUnitsOf16;
    VBits words[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) words[r][v] = Set1Bits(0);
    }
    for (int64_t u = 0; u < some; ++u, codes += kPanelRows * kUnitBytes, x += 8) {
      VBits half[kVectors];
      for (int v = 0; v < kVectors; ++v)
        half[v] = And(LoadBits(codes + v * kLanes * kUnitBytes), low);
      SumHalf4(half, x, x_stride, words);
      for (int v = 0; v < kVectors; ++v) {
        half[v] = And(ShiftRight(LoadBits(codes + v * kLanes * kUnitBytes), 4), low);
      }
      SumHalf4(half, x + 4, x_stride, words);
    }
    units -= some;
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = Add32(acc[r][v], MultiplyPairs16(words[r][v], ones));
      }
    }
  }
}
#endif

template <int kBits>
struct InputType {
  using Type = int8_t;
};
template <>
struct InputType<8> {
  using Type = Input8;
};
inline const int8_t* Columns(const QuantizedInput& in, int8_t) { return in.q; }
inline const int16_t* Columns(const QuantizedInput& in, int16_t) { return in.words; }

template <int kBits, int kRows, int kVectors, class X>
inline __attribute__((always_inline)) void SumUnits(const uint8_t* codes, const X* x,
                                                    int64_t x_stride, int64_t units,
                                                    VBits (&acc)[kRows][kVectors]) {
  if constexpr (kBits == 8) {
    SumUnits8(codes, x, x_stride, units, acc);
  } else {
    SumUnits4(codes, x, x_stride, units, acc);
  }
}

/// Rows [row, row + kRows) times the outputs of kVectors vectors from `vector` on, into a.sums. The
/// loops over rows and vectors must vanish: what they index lives in registers.
template <int kBits, int kRows, int kVectors>
void IntegerTile(const GemmPanelArgs& a, int64_t row, int vector) {
  const int64_t num_groups = a.input.num_groups;
  const int64_t stride = a.input.stride;
  const int64_t group_units =
      num_groups == 1 ? int64_t{1} << 40 : a.codes.group / UnitColumns(kBits);
  int64_t units_left = CodeUnits(kBits, a.k);
  const auto* codes = static_cast<const uint8_t*>(a.codes.codes) + vector * kLanes * kUnitBytes;
  using X = typename InputType<kBits>::Type;
  const X* x = Columns(a.input, X()) + row * stride;
  const float* x_scales = a.input.scales + row * num_groups;
  const int32_t* starts = a.input.starts + row * num_groups;
  const int32_t* x_sums = a.input.sums + row * num_groups;
  const auto* scales = static_cast<const char*>(a.codes.scales);
  const auto* offsets = static_cast<const char*>(a.codes.offsets);
  const DType scale_type = a.codes.scale_type;
  const DType offset_type = a.codes.offset_type;
  V sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Zero();
  }
  for (int64_t g = 0; g < num_groups; ++g) {
    const int64_t units = units_left < group_units ? units_left : group_units;
    VBits acc[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const VBits start = LoadInput(starts + r * num_groups + g);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = start;
    }
    constexpr int64_t kCommon = 32 / UnitColumns(kBits);  // of a group: a loop that unrolls
    if (units == kCommon) {
      SumUnits<kBits>(codes, x, stride, kCommon, acc);
    } else {
      SumUnits<kBits>(codes, x, stride, units, acc);
    }
    codes += units * kPanelRows * kUnitBytes + a.codes.group_gap;
    x += units * UnitColumns(kBits);
    units_left -= units;
    V scale[kVectors];
    for (int v = 0; v < kVectors; ++v)
      scale[v] = LoadScales(scale_type, scales, (vector + v) * kLanes);
    scales += a.codes.scales_stride;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V x_scale = Set1(x_scales[r * num_groups + g]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = Fma(ToFloat(acc[r][v]) * x_scale, scale[v], sums[r][v]);
      }
    }
    if (offsets == nullptr) continue;
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = LoadScales(offset_type, offsets, (vector + v) * kLanes);
    }
    offsets += a.codes.offsets_stride;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const int64_t of_row = r * num_groups + g;
      const V x_sum = Set1(static_cast<float>(x_sums[of_row]) * x_scales[of_row]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Fma(x_sum, scale[v], sums[r][v]);
    }
  }
  float* out = a.sums + row * kPanelRows + vector * kLanes;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(out + r * kPanelRows + v * kLanes, sums[r][v]);
  }
}

template <int kBits, int kRows, int kVectors>
void IntegerTiles(const GemmPanelArgs& a, int64_t row) {
  for (int vector = 0; vector < kPanelVectors; vector += kVectors) {
    IntegerTile<kBits, kRows, kVectors>(a, row, vector);
  }
}

template <int kBits>
void IntegerSumsOf(const GemmPanelArgs& a) {
  // 32 registers hold the integers of 6 rows, or those and the floats of 3, which is better where
  // groups end often.
  constexpr int kMost = kLanes == 16 ? 6 : 4;
  constexpr int kWide = kPanelVectors;
  constexpr int kNarrow = kLanes == 16 ? kPanelVectors : 2;
  const bool short_groups = a.input.num_groups > 1 && a.codes.group < 128;
  const int64_t most = kLanes == 16 && short_groups ? 3 : kMost;
  const int64_t num_tiles = (a.m + most - 1) / most;
  for (int64_t tile = 0, row = 0; tile < num_tiles; ++tile) {
    const int64_t rows = (a.m - row + num_tiles - tile - 1) / (num_tiles - tile);
    switch (rows) {
      case 1:
        IntegerTiles<kBits, 1, kWide>(a, row);
        break;
      case 2:
        IntegerTiles<kBits, 2, kNarrow>(a, row);
        break;
      case 3:
        IntegerTiles<kBits, 3, kNarrow>(a, row);
        break;
      case 4:
        IntegerTiles<kBits, 4, kNarrow>(a, row);
        break;
      case 5:
      case 6:
        if constexpr (kMost == 6) {
          if (rows == 5) {
            IntegerTiles<kBits, 5, kNarrow>(a, row);
          } else {
            IntegerTiles<kBits, 6, kNarrow>(a, row);
          }
        }
        break;
      default:
        __builtin_unreachable();
    }
    row += rows;
  }
}

void IntegerSums(const GemmPanelArgs& a) {
  if (a.format == WeightFormat::kCodes4) {
    IntegerSumsOf<4>(a);
  } else {
    IntegerSumsOf<8>(a);
  }
}

void QuantizeRow(const QuantizeRowArgs& a) {
  for (int64_t k = a.k; k < a.stride; ++k) a.q[k] = 0;
  for (int64_t begin = 0, g = 0; begin < a.k; begin += a.group, ++g) {
    const int64_t size = a.k - begin < a.group ? a.k - begin : a.group;
    a.scales[g] = RoundToBytes(a.x + begin, size, a.q + begin);
    int32_t sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += a.q[begin + i];
    a.sums[g] = sum;
    a.starts[g] = -a.center * sum;
  }
  if (a.words == nullptr) return;
  for (int64_t k = 0; k < a.stride; ++k) a.words[PlaceOfWord(k)] = a.q[k];
}

}  // namespace
}  // namespace penstock
