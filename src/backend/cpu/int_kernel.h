// Sums of integer products of quantised inputs and codes: lanes run over outputs, four columns a
// lane at a time. Included by the kernels_*.cc only (through gemm_kernel.h).
// Owns nothing. Must not know models or batches.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/ahead.h"
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

/// acc[r][v] += one unit of codes of 8 bits times rows of x.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnit8(const uint8_t* codes, const int8_t* x,
                                                    int64_t x_stride,
                                                    VBits (&acc)[kRows][kVectors]) {
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

/// The same of 4 bits.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void SumUnit4(const uint8_t* codes, const int8_t* x,
                                                    int64_t x_stride,
                                                    VBits (&acc)[kRows][kVectors]) {
  const VBits low = Set1Bits(0x0f0f0f0f);
  VBits w[kVectors], next[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const VBits both = LoadBits(codes + v * kLanes * kUnitBytes);
    w[v] = And(both, low);
    next[v] = And(ShiftRight(both, 4), low);
  }
  for (int r = 0; r < kRows; ++r) {
    const VBits four = LoadInput(x + r * x_stride);
    for (int v = 0; v < kVectors; ++v) DotBytes(w[v], four, acc[r][v]);
  }
  if (kRows > 2) {  // no registers for both halves: it is read again
    asm("" : "+r"(codes));
    for (int v = 0; v < kVectors; ++v) {
      next[v] = And(ShiftRight(LoadBits(codes + v * kLanes * kUnitBytes), 4), low);
      asm("" : "+v"(next[v]));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const VBits four = LoadInput(x + r * x_stride + 4);
    for (int v = 0; v < kVectors; ++v) DotBytes(next[v], four, acc[r][v]);
  }
}

/// acc[r][v] += `units` units of codes, from `codes` on, times rows of x.
template <int kBits, int kRows, int kVectors, class A>
inline __attribute__((always_inline)) void SumUnits(const uint8_t* codes, const int8_t* x,
                                                    int64_t x_stride, int64_t units, A ahead,
                                                    VBits (&acc)[kRows][kVectors]) {
  const auto add = [&](int64_t u) __attribute__((always_inline)) {
    ahead.Fetch(u);
    if constexpr (kBits == 8) {
      SumUnit8(codes, x, x_stride, acc);
    } else {
      SumUnit4(codes, x, x_stride, acc);
    }
    codes += kPanelRows * kUnitBytes;
    x += UnitColumns(kBits);
  };
  if constexpr (kRows == 1 || (kRows == 2 && kBits == 4)) {
#pragma GCC unroll 4
    for (int64_t u = 0; u < units; ++u) add(u);
  } else {  // long enough
#pragma GCC unroll 1
    for (int64_t u = 0; u < units; ++u) add(u);
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
template <int kRows, int kVectors, class A>
inline __attribute__((always_inline)) void SumUnits8(const uint8_t* codes, const int16_t* x,
                                                     int64_t x_stride, int64_t units, A ahead,
                                                     VBits (&acc)[kRows][kVectors]) {
  const VBits even = Set1Bits(0x00ff00ff);
  for (int64_t u = 0; u < units; ++u, codes += kPanelRows * kUnitBytes, x += 4) {
    ahead.Fetch(u);
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
template <int kRows, int kVectors, class A>
inline __attribute__((always_inline)) void SumUnits4(const uint8_t* codes, const int8_t* x,
                                                     int64_t x_stride, int64_t units, A ahead,
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
      ahead.Fetch(u);
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
    ahead.Skip(some);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = Add32(acc[r][v], MultiplyPairs16(words[r][v], ones));
      }
    }
  }
}

template <int kBits, int kRows, int kVectors, class X, class A>
inline __attribute__((always_inline)) void SumUnits(const uint8_t* codes, const X* x,
                                                    int64_t x_stride, int64_t units, A ahead,
                                                    VBits (&acc)[kRows][kVectors]) {
  if constexpr (kBits == 8) {
    SumUnits8(codes, x, x_stride, units, ahead, acc);
  } else {
    SumUnits4(codes, x, x_stride, units, ahead, acc);
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

/// Units of a panel that are multiplied for all rows before the next ones: their codes stay in L1.
struct UnitBlock {
  int64_t group = 0;  // first
  int64_t num_groups = 1;
  int64_t unit = 0;  // first
  int64_t num_units = 0;
  bool last = true;
};
constexpr int64_t kBlockUnits = 16 * 1024 / (kPanelRows * kUnitBytes);
constexpr int64_t kUnitLines = kPanelRows * kUnitBytes / kLineBytes;

/// The first address of a block's codes for the outputs from `vector` on.
inline const uint8_t* CodesOf(const GemmPanelArgs& a, const UnitBlock& b, int vector) {
  return static_cast<const uint8_t*>(a.codes.codes) + b.group * a.codes.group_gap +
         (b.unit * kPanelRows + vector * kLanes) * kUnitBytes;
}

/// Where the scales of a group are, for rows from `row` on and outputs from `vector` on.
struct GroupScales {
  const float* x_scales;
  const int32_t* x_sums;
  const char* scales;
  const char* offsets;  // null: none

  GroupScales(const GemmPanelArgs& a, int64_t row, int64_t group)
      : x_scales(a.input.scales + row * a.input.num_groups + group),
        x_sums(a.input.sums + row * a.input.num_groups + group),
        scales(static_cast<const char*>(a.codes.scales) + group * a.codes.scales_stride),
        offsets(a.codes.offsets == nullptr
                    ? nullptr
                    : static_cast<const char*>(a.codes.offsets) + group * a.codes.offsets_stride) {}
  void Next(const CodePanel& codes) {
    ++x_scales;
    ++x_sums;
    scales += codes.scales_stride;
    if (offsets != nullptr) offsets += codes.offsets_stride;
  }
};

/// sums += integers of a group times its scales.
template <int kRows, int kVectors>
inline __attribute__((always_inline)) void AddScaled(const GemmPanelArgs& a, int vector,
                                                     const GroupScales& group,
                                                     const VBits (&acc)[kRows][kVectors],
                                                     V (&sums)[kRows][kVectors]) {
  const int64_t num_groups = a.input.num_groups;
  V scale[kVectors];
  for (int v = 0; v < kVectors; ++v)
    scale[v] = LoadScales(a.codes.scale_type, group.scales, (vector + v) * kLanes);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const V x_scale = Set1(group.x_scales[r * num_groups]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = Fma(ToFloat(acc[r][v]) * x_scale, scale[v], sums[r][v]);
    }
  }
  if (group.offsets == nullptr) return;
  for (int v = 0; v < kVectors; ++v) {
    scale[v] = LoadScales(a.codes.offset_type, group.offsets, (vector + v) * kLanes);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const int64_t of_row = r * num_groups;
    const V x_sum = Set1(static_cast<float>(group.x_sums[of_row]) * group.x_scales[of_row]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Fma(x_sum, scale[v], sums[r][v]);
  }
}

template <int kRows, int kVectors>
inline __attribute__((always_inline)) void LoadSums(const float* out, bool any,
                                                    V (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = any ? Load(out + r * kPanelRows + v * kLanes) : Zero();
    }
  }
}

template <int kRows, int kVectors>
inline __attribute__((always_inline)) void StoreSums(const V (&sums)[kRows][kVectors], float* out) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(out + r * kPanelRows + v * kLanes, sums[r][v]);
  }
}

/// Rows [row, row + kRows) times a block of the outputs of kVectors vectors from `vector` on, of
/// rows with one scale: a.sums holds integers until the last block. The loops over rows and vectors
/// must vanish: what they index lives in registers.
template <int kBits, int kRows, int kVectors, class A>
void IntegerTileOfRows(const GemmPanelArgs& a, int64_t row, int vector, const UnitBlock& b,
                       A ahead) {
  using X = typename InputType<kBits>::Type;
  const int64_t stride = a.input.stride;
  const X* x = Columns(a.input, X()) + row * stride + b.unit * UnitColumns(kBits);
  float* out = a.sums + row * kPanelRows + vector * kLanes;
  VBits acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const VBits start = LoadInput(a.input.starts + row + r);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = b.unit > 0 ? LoadBits(out + r * kPanelRows + v * kLanes) : start;
    }
  }
  SumUnits<kBits>(CodesOf(a, b, vector), x, stride, b.num_units, ahead, acc);
  if (!b.last) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) StoreBits(out + r * kPanelRows + v * kLanes, acc[r][v]);
    }
    return;
  }
  V sums[kRows][kVectors] = {};
  AddScaled(a, vector, GroupScales(a, row, 0), acc, sums);
  StoreSums(sums, out);
}

/// The same of groups of columns, whole ones in each block: a.sums holds floats.
template <int kBits, int kRows, int kVectors, class A>
void IntegerTileOfGroups(const GemmPanelArgs& a, int64_t row, int vector, const UnitBlock& b,
                         A ahead) {
  using X = typename InputType<kBits>::Type;
  const int64_t num_groups = a.input.num_groups;
  const int64_t stride = a.input.stride;
  const int32_t* starts = a.input.starts + row * num_groups + b.group;
  const X* x = Columns(a.input, X()) + row * stride + b.unit * UnitColumns(kBits);
  const uint8_t* codes = CodesOf(a, b, vector);
  float* out = a.sums + row * kPanelRows + vector * kLanes;
  GroupScales group(a, row, b.group);
  // With the integers of more rows than three there are no registers left for floats.
  constexpr bool kKept = kLanes == 8 || kRows <= 3;
  V sums[kRows][kVectors];
  if (kKept) LoadSums(out, b.group > 0, sums);
  int64_t units_left = b.num_units;
  const int64_t group_units = a.codes.group / UnitColumns(kBits);
  for (int64_t g = 0; g < b.num_groups; ++g) {
    const int64_t units = units_left < group_units ? units_left : group_units;
    VBits acc[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const VBits start = LoadInput(starts + r * num_groups + g);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = start;
    }
    constexpr int64_t kCommon = 32 / UnitColumns(kBits);  // of a group: a loop that unrolls
    if (kRows <= 2 && units == kCommon) {
      SumUnits<kBits>(codes, x, stride, kCommon, ahead, acc);
    } else {
      SumUnits<kBits>(codes, x, stride, units, ahead, acc);
    }
    if (!kKept) LoadSums(out, b.group + g > 0, sums);
    AddScaled(a, vector, group, acc, sums);
    if (!kKept) StoreSums(sums, out);
    codes += units * kPanelRows * kUnitBytes + a.codes.group_gap;
    ahead.Skip(units);
    x += units * UnitColumns(kBits);
    units_left -= units;
    group.Next(a.codes);
  }
  if (kKept) StoreSums(sums, out);
}

template <int kBits, int kRows, int kVectors, class A>
void IntegerTiles(const GemmPanelArgs& a, int64_t row, const UnitBlock& b, A ahead) {
  for (int vector = 0; vector < kPanelVectors; vector += kVectors) {
    if (a.input.num_groups == 1) {
      IntegerTileOfRows<kBits, kRows, kVectors>(a, row, vector, b, ahead);
    } else {
      IntegerTileOfGroups<kBits, kRows, kVectors>(a, row, vector, b, ahead);
    }
  }
}

template <int kBits, class A>
void IntegerRows(const GemmPanelArgs& a, int64_t row, int64_t rows, const UnitBlock& b, A ahead) {
  constexpr int kWide = kPanelVectors;
  constexpr int kNarrow = kLanes == 16 ? kPanelVectors : 2;
  switch (rows) {
    case 1:
      return IntegerTiles<kBits, 1, kWide>(a, row, b, ahead);
    case 2:
      return IntegerTiles<kBits, 2, kNarrow>(a, row, b, ahead);
    case 3:
      return IntegerTiles<kBits, 3, kNarrow>(a, row, b, ahead);
    case 4:
      return IntegerTiles<kBits, 4, kNarrow>(a, row, b, ahead);
#if defined(__AVX512F__)
    case 5:
      return IntegerTiles<kBits, 5, kNarrow>(a, row, b, ahead);
    case 6:
      return IntegerTiles<kBits, 6, kNarrow>(a, row, b, ahead);
#endif
    default:
      __builtin_unreachable();
  }
}

template <int kBits>
void IntegerSumsOf(const GemmPanelArgs& a) {
  // 32 registers hold the integers of 6 rows, or those and the floats of 3, which is better where
  // groups end often.
  const int64_t num_groups = a.input.num_groups;
  const bool short_groups = num_groups > 1 && a.codes.group < 128;
  const int64_t most = kLanes == 8 ? 4 : short_groups ? 3 : 6;
  const int64_t num_tiles = NumTiles(a.m, most, kUnitLines);
  const int64_t num_units = CodeUnits(kBits, a.k);
  int64_t groups = num_groups;  // and units of a block
  int64_t units = num_units;
  if (num_tiles > 1 && num_groups == 1) {
    units = kBlockUnits;
  } else if (num_tiles > 1) {
    groups = kBlockUnits * UnitColumns(kBits) / a.codes.group;
    if (groups == 0) groups = 1;
    units = groups * a.codes.group / UnitColumns(kBits);
  }
  UnitBlock b;
  for (; b.unit < num_units; b.unit += units, b.group += num_groups == 1 ? 0 : groups) {
    b.last = num_units - b.unit <= units;
    b.num_units = b.last ? num_units - b.unit : units;
    b.num_groups = b.last ? num_groups - b.group : groups;
    const auto* next = reinterpret_cast<const char*>(CodesOf(a, b, 0)) +
                       b.num_units * kPanelRows * kUnitBytes + b.num_groups * a.codes.group_gap;
    for (int64_t tile = 0, row = 0; tile < num_tiles; ++tile) {
      const int64_t rows = (a.m - row + num_tiles - tile - 1) / (num_tiles - tile);
      if (num_tiles > 1 && b.last) FetchOutputs(a, row, rows);
      if (num_tiles > 1 && tile < kUnitLines) {
        IntegerRows<kBits>(a, row, rows, b, Ahead{next + tile * b.num_units * kLineBytes});
      } else {
        IntegerRows<kBits>(a, row, rows, b, NothingAhead());
      }
      row += rows;
    }
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
