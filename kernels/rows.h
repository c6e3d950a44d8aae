// What the row kernels work on: one CTA per token, a row stays with its CTA.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know classes of the server.
// Threads: value.
#pragma once

#include <cstdint>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

enum class Element : uint8_t { kFloat32, kBFloat16, kFloat16 };

/// y[r] = table[ids[r]]
struct EmbedArgs {
  const void* table = nullptr;   // [vocab, width], `element`
  const int32_t* ids = nullptr;  // [rows]; each in [0, vocab)
  void* y = nullptr;             // [rows, width], `element`
  int32_t rows = 0;
  int32_t width = 0;
  Element element = Element::kBFloat16;
};

/// y = x / sqrt(mean(x^2) + eps) * weight. The sum of squares runs over 256 strided fma lanes, then
/// a binary tree, and the inverse root is 1 / sqrt in two roundings, so that the result does not
/// depend on the grid.
struct RmsNormArgs {
  const void* x = nullptr;        // [rows, width], `element`
  const float* weight = nullptr;  // [width]
  void* y = nullptr;              // [rows, width], `element`; may be x
  float eps = 1e-6f;
  int32_t rows = 0;
  int32_t width = 0;
  Element element = Element::kBFloat16;
};

/// y = silu(x[:, :width]) * x[:, width:], computed in float32
struct GatedSiluArgs {
  const void* x = nullptr;  // [rows, 2 width], `element`: gates, then ups
  void* y = nullptr;        // [rows, width], `element`
  int32_t rows = 0;
  int32_t width = 0;
  Element element = Element::kBFloat16;
};

}  // namespace penstock::PENSTOCK_KERNELS
