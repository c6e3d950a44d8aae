// What the expansion of codes works on, for products of many rows and for tables that embed.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know who multiplies.
// Threads: value.
#pragma once

#include <cstdint>

#include "kernels/rows.h"
#include "kernels/weight_layout.h"

namespace penstock::PENSTOCK_KERNELS {

/// y = rows [row_begin, row_begin + num_rows) of the weight as numbers: scale * number, then + offset,
/// each rounded to float32, and once more to the element.
struct DequantArgs {
  const void* codes = nullptr;  // [n, k] in tiles
  CodeLayout layout;
  const float* row_scales = nullptr;  // [n], where layout.group is 0
  void* y = nullptr;                  // [num_rows, k] element; rows begin at multiples of 16 bytes
  int64_t y_stride = 0;               // elements
  int32_t row_begin = 0;              // a multiple of kTileRows
  int32_t num_rows = 0;
  int32_t k = 0;
  Element element = Element::kBFloat16;  // kBFloat16 or kFloat16
};

/// y[r] = scale * row ids[r] of the weight, or added to what y holds; the row as DequantArgs has it, in
/// float32.
struct EmbedCodesArgs {
  const void* codes = nullptr;  // [vocab, k] in tiles; or int8 in plain rows
  bool plain_rows = false;
  CodeLayout layout;                  // of tiles
  const float* row_scales = nullptr;  // [vocab], of plain rows and where layout.group is 0
  const int32_t* ids = nullptr;       // [rows]; each in [0, vocab)
  void* y = nullptr;                  // [rows, k] element
  int64_t y_stride = 0;               // elements
  int32_t rows = 0;
  int32_t k = 0;
  float scale = 1.0f;
  bool accumulate = false;
  Element element = Element::kBFloat16;
};

}  // namespace penstock::PENSTOCK_KERNELS
