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
inline VBits DotBytes(VBits sums, VBits codes, VBits x) {
  return _mm512_dpbusd_epi32(sums, codes, x);
}
#else
inline VBits DotBytes(VBits sums, VBits codes, VBits x) {
  return _mm256_dpbusd_avx_epi32(sums, codes, x);
}
#endif

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
  for (int64_t u = 0; u < units; ++u, codes += kPanelRows * kUnitBytes, x += 4) {
    VBits w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = LoadBits(codes + v * kLanes * kUnitBytes);
    for (int r = 0; r < kRows; ++r) {
      const VBits four = LoadInput(x + r * x_stride);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = DotBytes(acc[r][v], w[v], four);
    }
  }
}

/// The same of 4 bits.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnits4(const uint8_t* codes, const int8_t* x,
                                                     int64_t x_stride, int64_t units,
                                                     VBits (&acc)[kRows][kVectors]) {
  for (int64_t u = 0; u < units; ++u, codes += kPanelRows * kUnitBytes, x += 8) {
    VBits first[kVectors], second[kVectors];
    LoadHalves(codes, first, second);
    for (int r = 0; r < kRows; ++r) {
      const VBits four = LoadInput(x + r * x_stride);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = DotBytes(acc[r][v], first[v], four);
      const VBits next = LoadInput(x + r * x_stride + 4);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = DotBytes(acc[r][v], second[v], next);
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
      asm("" : "+x"(acc[r][v]));
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
      asm("" : "+x"(words[r][v]));
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

/// Rows [row, row + kRows) times the outputs of kVectors vectors from `vector` on, into a.sums.
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
  const void* const scales = a.codes.scales;
  const void* const offsets = a.codes.offsets;
  const DType scale_type = a.codes.scale_type;
  const DType offset_type = a.codes.offset_type;
  float* sums = a.sums + row * kPanelRows + vector * kLanes;
  for (int64_t g = 0; g < num_groups; ++g) {
    const int64_t units = units_left < group_units ? units_left : group_units;
    VBits acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      const VBits start = LoadInput(starts + r * num_groups + g);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = start;
    }
    if constexpr (kBits == 8) {
      SumUnits8(codes, x, stride, units, acc);
    } else {
      SumUnits4(codes, x, stride, units, acc);
    }
    codes += units * kPanelRows * kUnitBytes;
    x += units * UnitColumns(kBits);
    units_left -= units;
    const int64_t at = g * kPanelRows + vector * kLanes;
    V scale[kVectors];
    for (int v = 0; v < kVectors; ++v) scale[v] = LoadScales(scale_type, scales, at + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const V x_scale = Set1(x_scales[r * num_groups + g]);
      for (int v = 0; v < kVectors; ++v) {
        float* sum = sums + r * kPanelRows + v * kLanes;
        Store(sum, Fma(ToFloat(acc[r][v]) * x_scale, scale[v], g == 0 ? Zero() : Load(sum)));
      }
    }
    if (offsets == nullptr) continue;
    for (int v = 0; v < kVectors; ++v) {
      const V offset = LoadScales(offset_type, offsets, at + v * kLanes);
      for (int r = 0; r < kRows; ++r) {
        float* sum = sums + r * kPanelRows + v * kLanes;
        const int64_t of_row = r * num_groups + g;
        const float x_sum = static_cast<float>(x_sums[of_row]) * x_scales[of_row];
        Store(sum, Fma(Set1(x_sum), offset, Load(sum)));
      }
    }
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
  constexpr int kMost = kLanes == 16 ? 6 : 4;  // rows whose sums fit the registers
  constexpr int kWide = kPanelVectors;
  constexpr int kNarrow = kLanes == 16 ? kPanelVectors : 2;
  const int64_t num_tiles = (a.m + kMost - 1) / kMost;
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
#if defined(__AVX512F__)
      case 5:
        IntegerTiles<kBits, 5, kNarrow>(a, row);
        break;
      case 6:
        IntegerTiles<kBits, 6, kNarrow>(a, row);
        break;
#endif
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
