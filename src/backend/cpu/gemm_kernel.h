// y = x w^T, panel by panel. A panel holds kPanelVectors * kLanes output rows, interleaved so that
// one k is one run of memory: lanes run over outputs, and each output is one chain of fused
// multiply-adds over k, whatever m is. Included by kernels_avx2.cc and kernels_avx512.cc only.
// Owns nothing. Must not know models or batches.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/code_kernel.h"
#include "backend/cpu/int_kernel.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kMaxTileRows = kLanes == 16 ? 6 : 3;  // x kPanelVectors sums fill the registers

/// Two of a panel's vectors of weights at one k, widened to float. bfloat16 interleaves the halves
/// of such a pair.
inline __attribute__((always_inline)) void LoadPair(const float* p, V& a, V& b) {
  a = Load(p);
  b = Load(p + kLanes);
}
inline __attribute__((always_inline)) void LoadPair(const Bf16* p, V& a, V& b) {
  const VBits pair = LoadBits(p);
  a = LowHalves(pair);
  b = HighHalves(pair);
}
inline __attribute__((always_inline)) void LoadPair(const Fp16* p, V& a, V& b) {
  a = Load(p);
  b = Load(p + kLanes);
}

template <int kRows, class W>
void GemmTile(const float* x, int64_t x_stride, const W* panel, int64_t depth, float* sums,
              bool first) {
  // With 16 registers the sums leave room for one x: the compiler must read it again for the second
  // pair, not keep it.
  const float* again = x;
  if (kLanes == 8) asm("" : "+r"(again));
  V acc[kRows][kPanelVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) {
      acc[r][v] = first ? Zero() : Load(sums + r * kPanelRows + v * kLanes);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int v = 0; v < kPanelVectors; v += 2) {
      V w0, w1;
      LoadPair(panel + k * kPanelRows + v * kLanes, w0, w1);
      for (int r = 0; r < kRows; ++r) {
        const V xk = Set1((v == 0 ? x : again)[r * x_stride + k]);
        acc[r][v] = Fma(xk, w0, acc[r][v]);
        acc[r][v + 1] = Fma(xk, w1, acc[r][v + 1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) Store(sums + r * kPanelRows + v * kLanes, acc[r][v]);
  }
}

template <class W>
void GemmRows(int64_t rows, const float* x, int64_t x_stride, const W* panel, int64_t depth,
              float* sums, bool first) {
  switch (rows) {
    case 1:
      return GemmTile<1>(x, x_stride, panel, depth, sums, first);
    case 2:
      return GemmTile<2>(x, x_stride, panel, depth, sums, first);
    case 3:
      return GemmTile<3>(x, x_stride, panel, depth, sums, first);
#if defined(__AVX512F__)
    case 4:
      return GemmTile<4>(x, x_stride, panel, depth, sums, first);
    case 5:
      return GemmTile<5>(x, x_stride, panel, depth, sums, first);
    case 6:
      return GemmTile<6>(x, x_stride, panel, depth, sums, first);
#endif
    default:
      __builtin_unreachable();
  }
}

/// `part(k, depth)` are the panel's weights [depth, kPanelRows] from k on.
template <class Part>
void GemmSums(const GemmPanelArgs& a, const Part& part) {
  const int64_t num_tiles = (a.m + kMaxTileRows - 1) / kMaxTileRows;
  for (int64_t k = 0; k < a.k || k == 0; k += kGemmDepth) {
    const int64_t depth = a.k - k < kGemmDepth ? a.k - k : kGemmDepth;
    const auto* panel = part(k, depth);
    for (int64_t tile = 0, row = 0; tile < num_tiles;
         ++tile) {  // rows spread evenly over the tiles
      const int64_t rows = (a.m - row + num_tiles - tile - 1) / (num_tiles - tile);
      GemmRows(rows, a.x + row * a.x_stride + k, a.x_stride, panel, depth,
               a.sums + row * kPanelRows, k == 0);
      row += rows;
    }
  }
}

template <class W>
void GemmSumsOf(const GemmPanelArgs& a) {
  const W* panel = static_cast<const W*>(a.panel);
  GemmSums(a, [panel](int64_t k, int64_t) { return panel + k * kPanelRows; });
}

void GemmSumsOfCodes(const GemmPanelArgs& a) {
  const bool paired = a.format == WeightFormat::kCodes4;
  GemmSums(a, [&a, paired](int64_t k, int64_t depth) -> const float* {
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
      GemmSumsOf<Bf16>(a);
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

template <class W>
void PackRows(const void* const* rows, int64_t num_rows, int64_t k, bool interleave, void* out) {
  constexpr int64_t kBlock = 64;  // k per pass over the rows: reads whole cache lines
  W* panel = static_cast<W*>(out);
  for (int64_t begin = 0; begin < k; begin += kBlock) {
    const int64_t end = begin + kBlock < k ? begin + kBlock : k;
    for (int row = 0; row < kPanelRows; ++row) {
      int at = row;
      if (interleave) {
        const int pair = row / (2 * kLanes);
        const int within = row % (2 * kLanes);
        at = pair * 2 * kLanes + (within % kLanes) * 2 + within / kLanes;
      }
      for (int64_t i = begin; i < end; ++i) {
        W w{};
        if (row < num_rows) {
          __builtin_memcpy(&w, static_cast<const char*>(rows[row]) + i * sizeof(W), sizeof(W));
        }
        panel[i * kPanelRows + at] = w;
      }
    }
  }
}

void PackPanel(WeightFormat format, const void* const* rows, int64_t num_rows, int64_t k,
               void* panel) {
  switch (format) {
    case WeightFormat::kFloat32:
      return PackRows<float>(rows, num_rows, k, false, panel);
    case WeightFormat::kBFloat16:
      return PackRows<Bf16>(rows, num_rows, k, true, panel);
    case WeightFormat::kFloat16:
      return PackRows<Fp16>(rows, num_rows, k, false, panel);
    case WeightFormat::kCodes4:
    case WeightFormat::kCodes8:
      __builtin_trap();
  }
}

}  // namespace
}  // namespace penstock
