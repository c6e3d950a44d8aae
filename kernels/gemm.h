// What the products of linear layers work on: y = x w^T, rows of x in blocks of at most 64, and how
// the work is split. The split depends on n, k and the number of blocks of threads that run at once
// alone, and partial sums are added in order: a row of y has the same bits whatever m.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know classes of the server.
// Threads: value.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"
#include "kernels/weight_layout.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kGemmRows = 64;         // of x in a block, at most
constexpr int32_t kGemmBlocksAtOnce = 2;  // of rows of x; share the weights in the L2 cache
constexpr int32_t kGemmThreads = 256;

/// The steps of a product, tile of w by tile, dealt out to CTAs in equal runs.
struct GemmSplit {
  int32_t tiles = 0;  // of kTileRows rows of w
  int32_t steps = 0;  // of a tile, along k
  int32_t ctas = 0;

  PENSTOCK_EVERYWHERE int64_t all() const { return int64_t{tiles} * steps; }
  PENSTOCK_EVERYWHERE int64_t begin(int32_t cta) const { return cta * all() / ctas; }
  /// Whose run has `step`.
  PENSTOCK_EVERYWHERE int32_t owner(int64_t step) const {
    return static_cast<int32_t>(((step + 1) * ctas - 1) / all());
  }
};

/// `at_once`: how many CTAs the device holds, one to a multiprocessor.
inline GemmSplit SplitGemm(int32_t n, int32_t steps, int32_t at_once) {
  constexpr int64_t kLeast = 4;  // steps that are worth a CTA
  GemmSplit s{(n + kTileRows - 1) / kTileRows, steps, 1};
  s.ctas = static_cast<int32_t>(std::clamp<int64_t>(s.all() / kLeast, 1, at_once));
  return s;
}

/// Scratch of products on one stream, one after the other.
struct GemmWorkspace {
  void* partials = nullptr;    // GemmPartialBytes(at_once)
  int32_t* arrived = nullptr;  // [GemmCounters(n)] of the largest n; zero, and left so
  int32_t at_once = 1;
};
inline size_t GemmPartialBytes(int32_t at_once) {
  return size_t{2} * kGemmBlocksAtOnce * at_once * kTileRows * kGemmRows * sizeof(float);
}
inline size_t GemmCounters(int32_t n) {
  return size_t{kGemmBlocksAtOnce} * ((n + kTileRows - 1) / kTileRows);
}

/// y = soft_cap tanh(scale (x w^T + bias) / soft_cap), or added to what y holds; summed in float32.
struct GemmArgs {
  const void* x = nullptr;      // [m, k] element; rows begin at multiples of 16 bytes
  int64_t x_stride = 0;         // elements
  const void* w = nullptr;      // [n, k] element, in plain rows (weight_layout.h)
  void* y = nullptr;            // [m, n] y_element
  int64_t y_stride = 0;         // elements
  const float* bias = nullptr;  // [n]; null: none
  bool accumulate = false;
  float scale = 1.0f;
  float soft_cap = 0.0f;  // 0: none
  int32_t m = 0;
  int32_t n = 0;
  int32_t k = 0;
  Element element = Element::kBFloat16;  // kBFloat16, kFloat16, or kInt8, which is summed exactly:
  const float* x_scales = nullptr;       // [m]; x w^T is (float(sum) x_scale) w_scale
  const float* w_scales = nullptr;       // [n]; of codes: where layout.group is 0
  bool has_codes = false;
  CodeLayout layout;       // of them
  bool keep_sums = false;  // int8: y is int32, the sums and nothing else
  Element y_element = Element::kBFloat16;
  GemmWorkspace work;
};

}  // namespace penstock::PENSTOCK_KERNELS
