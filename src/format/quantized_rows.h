// The one form that quantised weights of any file are decoded into: codes in groups, each group
// with a scale and perhaps an offset.
// Owns nothing: buffers are the caller's. Must not know files or devices.
// Threads: value.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace penstock {

/// value(r, c) = scale[r, c / group] * code_value(code[r, c]) + offset[r, c / group], where
/// code_value(code) is book[code], or float(code) - center without a book. The product is rounded
/// to float32, then the sum.
struct QuantizedForm {
  int32_t bits = 8;                   // codes are below 2^bits: 4 or 8
  int32_t group = 32;                 // columns that share a scale: 16 or 32
  int32_t center = 0;                 // the code of zero
  bool has_offset = false;            // else offset is 0
  absl::Span<const float> book = {};  // empty, or [2^bits]; lives as long as the program
};

/// Where decoded rows go.
struct QuantizedRows {
  uint8_t* codes = nullptr;  // [rows, k]
  float* scales = nullptr;   // [rows, k / group]
  float* offsets = nullptr;  // [rows, k / group]; not touched where the form has no offset
};

}  // namespace penstock
