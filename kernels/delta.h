// The gated delta rule as kernels see it: a step's rows of some sequences, and what each sequence
// carries from step to step.
// Owns nothing; pointers are device memory. Plain C++. Must not know classes of the server.
// Threads: value.
#pragma once

#include <cstdint>

#include "kernels/rows.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kMostDeltaKeys = 256;  // of a head; a multiple of kDeltaKeyUnit
constexpr int32_t kDeltaKeyUnit = 4;

/// Rows [row_begin, row_begin + num_rows) are positions of one sequence, whose state lies at
/// states + slot * state_stride.
struct DeltaSequence {
  int32_t slot = 0;
  int32_t row_begin = 0;
  int32_t num_rows = 0;
};

/// As DeltaArgs in include/penstock/backend.h. A state is [conv_width - 1, channels], then
/// [value head, key_dim, value_dim]. What a row yields does not depend on how a sequence's rows are
/// cut into steps.
struct DeltaRuleArgs {
  const void* qkv = nullptr;  // [rows, channels], element: q heads, k heads, v heads
  int64_t qkv_stride = 0;
  const float* ba = nullptr;  // [rows, 2 num_value_heads]: b, then a
  int64_t ba_stride = 0;
  const float* conv = nullptr;     // [conv_width, channels]
  const float* decay = nullptr;    // [num_value_heads]
  const float* dt_bias = nullptr;  // [num_value_heads]
  float* states = nullptr;
  int64_t state_stride = 0;
  const DeltaSequence* sequences = nullptr;  // [num_sequences], in row order, covering all rows
  const int32_t* sequence_of = nullptr;      // [rows]
  float* convolved = nullptr;                // [rows, channels], scratch
  void* y = nullptr;                         // [rows, num_value_heads * value_dim], element
  int64_t y_stride = 0;
  int32_t rows = 0;
  int32_t num_sequences = 0;
  int32_t num_key_heads = 0;
  int32_t num_value_heads = 0;
  int32_t key_dim = 0;
  int32_t value_dim = 0;
  int32_t conv_width = 0;
  Element element = Element::kBFloat16;

  PENSTOCK_EVERYWHERE int32_t channels() const {
    return 2 * num_key_heads * key_dim + num_value_heads * value_dim;
  }
};

}  // namespace penstock::PENSTOCK_KERNELS
