// y = x w^T, panel by panel. A panel holds kPanelVectors * kLanes output rows, interleaved so that
// one k is one run of memory: lanes run over outputs, and each output is one chain of fused
// multiply-adds over k, whatever m is. Included by kernels_avx2.cc and kernels_avx512.cc only.
// Owns nothing. Must not know models or batches.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/ahead.h"
#include "backend/cpu/code_kernel.h"
#include "backend/cpu/int_kernel.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kMaxTileRows = kLanes == 16 ? 6 : 3;  // x kPanelVectors sums fill the registers

/// Of bfloat16 a lane of 16 holds two columns of an output, as products of bfloat16 take them. One of
/// 8 holds a column of two outputs, kLanes apart: there are registers for one column at a time.
constexpr int kBf16Columns = kLanes == 16 ? 2 : 1;

/// Two vectors of weights at column k + odd of a panel's part, from output `at` on, widened to float;
/// k is even where bfloat16 lies in two columns.
template <class W>
inline __attribute__((always_inline)) void LoadPair(const W* part, int64_t k, int odd, int at, V& a,
                                                    V& b) {
  const W* p = part + (k + odd) * kPanelRows + at;
  a = Load(p);
  b = Load(p + kLanes);
}
inline __attribute__((always_inline)) void LoadPair(const Bf16* part, int64_t k, int odd, int at,
                                                    V& a, V& b) {
  if constexpr (kBf16Columns == 2) {
    const Bf16* p = part + k * kPanelRows + 2 * at;
    const VBits first = LoadBits(p);
    const VBits second = LoadBits(p + 2 * kLanes);
    a = odd == 0 ? LowHalves(first) : HighHalves(first);
    b = odd == 0 ? LowHalves(second) : HighHalves(second);
  } else {
    const VBits pair = LoadBits(part + (k + odd) * kPanelRows + at);
    a = LowHalves(pair);
    b = HighHalves(pair);
  }
}

/// acc += column k + odd of the weights times that of x.
template <int kRows, class W>
inline __attribute__((always_inline)) void AddColumn(const float* x, const float* again,
                                                     int64_t x_stride, const W* part, int64_t k,
                                                     int odd, V (&acc)[kRows][kPanelVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v < kPanelVectors; v += 2) {
    V w0, w1;
    LoadPair(part, k, odd, v * kLanes, w0, w1);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V xk = Set1((v == 0 ? x : again)[r * x_stride + k + odd]);
      acc[r][v] = Fma(xk, w0, acc[r][v]);
      acc[r][v + 1] = Fma(xk, w1, acc[r][v + 1]);
    }
  }
}

template <int kRows, class W, class A>
void GemmTile(const float* x, int64_t x_stride, const W* panel, int64_t depth, float* sums,
              bool first, A) {
  // With 16 registers the sums leave room for one x: the compiler must read it again for the second
  // pair, not keep it.
  const float* again = x;
  if (kLanes == 8) asm("" : "+r"(again));
  V acc[kRows][kPanelVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) {
      acc[r][v] = first ? Zero() : Load(sums + r * kPanelRows + v * kLanes);
    }
  }
  int64_t k = 0;
  if constexpr (kBf16Columns == 2) {
    for (; k + 2 <= depth; k += 2) {
      AddColumn(x, again, x_stride, panel, k, 0, acc);
      AddColumn(x, again, x_stride, panel, k, 1, acc);
    }
  }
  for (; k < depth; ++k) AddColumn(x, again, x_stride, panel, k, 0, acc);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) Store(sums + r * kPanelRows + v * kLanes, acc[r][v]);
  }
}

#if defined(__AVX512BF16__)
constexpr bool kBf16Products = true;

/// acc += the columns that the lowest `kBytes` of four hold, times those of the weights.
template <size_t kBytes, int kRows>
inline __attribute__((always_inline)) void AddTwoColumns(const uint16_t* x, int64_t x_stride,
                                                         const Bf16* part,
                                                         V (&acc)[kRows][kPanelVectors]) {
  VBits w[kPanelVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kPanelVectors; ++v) {
    w[v] = LoadBits(part + v * 2 * kLanes);
    asm("" : "+v"(w[v]));  // else each row loads it again
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    int32_t two = 0;
    __builtin_memcpy(&two, x + r * x_stride, kBytes);
    const VBits xk = Set1Bits(two);
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) {
      asm("vdpbf16ps %2, %1, %0" : "+v"(acc[r][v]) : "v"(w[v]), "v"(xk));
    }
  }
}

/// As above, of bfloat16 inputs.
template <int kRows, class A>
__attribute__((noinline)) void GemmTile(const uint16_t* x, int64_t x_stride, const Bf16* panel,
                                        int64_t depth, float* sums, bool first, A ahead) {
  V acc[kRows][kPanelVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) {
      acc[r][v] = first ? Zero() : Load(sums + r * kPanelRows + v * kLanes);
    }
  }
  int64_t k = 0;
  for (; k + 2 <= depth; k += 2) {
    ahead.Fetch(k / 2);
    AddTwoColumns<4>(x + k, x_stride, panel + k * kPanelRows, acc);
  }
  if (k < depth) {  // the panel is zero beyond
    AddTwoColumns<2>(x + k, x_stride, panel + k * kPanelRows, acc);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) Store(sums + r * kPanelRows + v * kLanes, acc[r][v]);
  }
}
#else
constexpr bool kBf16Products = false;
#endif

template <class X, class W, class A>
void GemmRows(int64_t rows, const X* x, int64_t x_stride, const W* panel, int64_t depth,
              float* sums, bool first, A ahead) {
  switch (rows) {
    case 1:
      return GemmTile<1>(x, x_stride, panel, depth, sums, first, ahead);
    case 2:
      return GemmTile<2>(x, x_stride, panel, depth, sums, first, ahead);
    case 3:
      return GemmTile<3>(x, x_stride, panel, depth, sums, first, ahead);
#if defined(__AVX512F__)
    case 4:
      return GemmTile<4>(x, x_stride, panel, depth, sums, first, ahead);
    case 5:
      return GemmTile<5>(x, x_stride, panel, depth, sums, first, ahead);
    case 6:
      return GemmTile<6>(x, x_stride, panel, depth, sums, first, ahead);
#endif
    default:
      __builtin_unreachable();
  }
}

/// `part(k, depth)` are the panel's weights [depth, kPanelRows] from k on, for x of a.m rows.
template <class X, class Part>
void GemmSums(const GemmPanelArgs& a, const X* x, int64_t x_stride, const Part& part) {
  constexpr bool kFetches = __is_same(X, uint16_t);  // two columns are a unit
  constexpr int64_t kUnitLines = kFetches ? kPanelRows * 4 / kLineBytes : 0;
  constexpr int64_t kDepth = kFetches ? kGemmDepth / 2 : kGemmDepth;  // L1 holds the next part too
  const int64_t num_tiles = NumTiles(a.m, kMaxTileRows, kUnitLines);
  for (int64_t k = 0; k < a.k || k == 0; k += kDepth) {
    const int64_t depth = a.k - k < kDepth ? a.k - k : kDepth;
    const auto* panel = part(k, depth);
    const auto* next = reinterpret_cast<const char*>(panel + depth * kPanelRows);
    for (int64_t tile = 0, row = 0; tile < num_tiles;
         ++tile) {  // rows spread evenly over the tiles
      const int64_t rows = (a.m - row + num_tiles - tile - 1) / (num_tiles - tile);
      const auto multiply = [&](auto ahead) {
        GemmRows(rows, x + row * x_stride + k, x_stride, panel, depth, a.sums + row * kPanelRows,
                 k == 0, ahead);
      };
      if (num_tiles > 1 && k + depth == a.k) FetchOutputs(a, row, rows);
      if (kFetches && num_tiles > 1 && tile < kUnitLines) {
        multiply(Ahead{next + tile * (depth / 2) * kLineBytes});
      } else {
        multiply(NothingAhead());
      }
      row += rows;
    }
  }
}

template <class W>
void GemmSumsOf(const GemmPanelArgs& a) {
  const W* panel = static_cast<const W*>(a.panel);
  GemmSums(a, a.x, a.x_stride, [panel](int64_t k, int64_t) { return panel + k * kPanelRows; });
}

void GemmSumsOfBf16(const GemmPanelArgs& a) {
#if defined(__AVX512BF16__)
  if (a.x_bf16 != nullptr) {
    const auto* panel = static_cast<const Bf16*>(a.panel);
    return GemmSums(a, a.x_bf16, a.x_bf16_stride,
                    [panel](int64_t k, int64_t) { return panel + k * kPanelRows; });
  }
#endif
  GemmSumsOf<Bf16>(a);
}

void GemmSumsOfCodes(const GemmPanelArgs& a) {
  const bool paired = a.format == WeightFormat::kCodes4;
  GemmSums(a, a.x, a.x_stride, [&a, paired](int64_t k, int64_t depth) -> const float* {
    ExpandCodes(a.codes, paired, k, depth, a.weights);
    return a.weights;
  });
}

template <class T>
void GemmStore(const GemmPanelArgs& a) {
  const bool plain = a.scale == 1.0f && a.soft_cap == 0.0f;
  for (int64_t m = 0; m < a.m; ++m) {
    T* y = static_cast<T*>(a.y) + m * a.y_stride;
    const float* sums = a.sums + m * kPanelRows;
    ForVectors(
        a.n, [&](int64_t i, int count) __attribute__((always_inline)) {
          V v = LoadUpTo(sums + i, count);
          if (a.bias != nullptr) v = v + LoadUpTo(a.bias + i, count);
          if (!plain) {
            v = v * Set1(a.scale);
            if (a.soft_cap != 0.0f) v = Set1(a.soft_cap) * Tanh(v / Set1(a.soft_cap));
          }
          if (a.accumulate) v = v + LoadUpTo(y + i, count);
          StoreUpTo(y + i, v, count);
        });
  }
}

void GemmPanel(const GemmPanelArgs& a) {
  switch (a.format) {
    case WeightFormat::kFloat32:
      GemmSumsOf<float>(a);
      break;
    case WeightFormat::kBFloat16:
      GemmSumsOfBf16(a);
      break;
    case WeightFormat::kFloat16:
      GemmSumsOf<Fp16>(a);
      break;
    case WeightFormat::kCodes4:
    case WeightFormat::kCodes8:
      if (a.input.q != nullptr) {
        IntegerSums(a);
      } else {
        GemmSumsOfCodes(a);
      }
      break;
  }
  if (a.bf16) {
    GemmStore<Bf16>(a);
  } else {
    GemmStore<float>(a);
  }
}

/// Where output `row` of column k lies in a panel of W.
template <class W>
int64_t PlaceOfWeight(int64_t row, int64_t k) {
  if constexpr (!__is_same(W, Bf16)) {
    return k * kPanelRows + row;
  } else if constexpr (kBf16Columns == 2) {
    return k / 2 * 2 * kPanelRows + row * 2 + k % 2;
  } else {
    const int64_t within = row % (2 * kLanes);
    return k * kPanelRows + row - within + within % kLanes * 2 + within / kLanes;
  }
}

template <class W>
void PackRows(const void* const* rows, int64_t num_rows, int64_t k, void* out) {
  constexpr int64_t kBlock = 64;  // k per pass over the rows: reads whole cache lines
  W* panel = static_cast<W*>(out);
  if (__is_same(W, Bf16) && k % 2 == 1) {  // the column that makes the last pair
    for (int row = 0; row < kPanelRows; ++row) panel[PlaceOfWeight<W>(row, k)] = W{};
  }
  for (int64_t begin = 0; begin < k; begin += kBlock) {
    const int64_t end = begin + kBlock < k ? begin + kBlock : k;
    for (int row = 0; row < kPanelRows; ++row) {
      for (int64_t i = begin; i < end; ++i) {
        W w{};
        if (row < num_rows) {
          __builtin_memcpy(&w, static_cast<const char*>(rows[row]) + i * sizeof(W), sizeof(W));
        }
        panel[PlaceOfWeight<W>(row, i)] = w;
      }
    }
  }
}

void PackPanel(WeightFormat format, const void* const* rows, int64_t num_rows, int64_t k,
               void* panel) {
  switch (format) {
    case WeightFormat::kFloat32:
      return PackRows<float>(rows, num_rows, k, panel);
    case WeightFormat::kBFloat16:
      return PackRows<Bf16>(rows, num_rows, k, panel);
    case WeightFormat::kFloat16:
      return PackRows<Fp16>(rows, num_rows, k, panel);
    case WeightFormat::kCodes4:
    case WeightFormat::kCodes8:
      __builtin_trap();
  }
}

}  // namespace
}  // namespace penstock
