// What the row kernels work on. A row of a result depends on its own inputs alone, whatever the grid.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know classes of the server.
// Threads: value.
#pragma once

#include <cstdint>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

enum class Element : uint8_t { kFloat32, kBFloat16, kFloat16, kInt8 };

/// Rows that are read: numbers, or the exact sums of a product of 8-bit integers. A sum stands for
/// (float(sum) * row_scale) * column_scale + bias, one rounding each; where nothing is added to it,
/// rounded to the operation's element.
struct RowInput {
  const void* data = nullptr;            // [rows, width], the operation's element; or int32
  int64_t stride = 0;                    // elements from one row to the next
  const float* row_scales = nullptr;     // [rows]; null: numbers, without what follows
  const float* column_scales = nullptr;  // [width]
  const float* bias = nullptr;           // [width]; null: none
};

/// Rows that are written: numbers, or int8 with a scale per row. With s = amax / 127 of the numbers,
/// q = rint(x * (127 / amax)), ties to even; both 0 where 127 / amax overflows, and s is NaN where an
/// x is not finite.
struct RowOutput {
  void* data = nullptr;  // [rows, width], the operation's element; or int8
  int64_t stride = 0;
  float* scales = nullptr;  // [rows]; null: numbers
};

/// y[r] = scale * table[ids[r]], or added to what y holds
struct EmbedArgs {
  const void* table = nullptr;   // [vocab, width], table_element
  int64_t table_stride = 0;      // elements
  const int32_t* ids = nullptr;  // [rows]; each in [0, vocab); null: in order
  void* y = nullptr;             // [rows, width], element
  int64_t y_stride = 0;
  int32_t rows = 0;
  int32_t width = 0;
  float scale = 1.0f;
  bool accumulate = false;
  Element table_element = Element::kBFloat16;
  Element element = Element::kBFloat16;
};

/// n = (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias, mean 0 unless it is to center;
/// y = n, or scale (y + n). Sums run over 256 strided fma lanes, then a binary tree; the inverse root
/// is 1 / sqrt in two roundings.
struct NormArgs {
  RowInput x;
  void* residual =
      nullptr;  // [rows, width], element; not null: x is added to it first, and the sum
                // is normalised
  int64_t residual_stride = 0;
  const float* weight = nullptr;  // [width]; null: ones
  const float* bias = nullptr;    // [width]; null: none
  RowOutput y;                    // may be x
  float eps = 1e-6f;
  float scale = 1.0f;
  bool center = false;
  bool accumulate = false;  // not with int8
  int32_t rows = 0;
  int32_t width = 0;
  Element element = Element::kBFloat16;
};

enum class Gate : uint8_t {
  kSilu,
  kGelu,
  kGeluTanh,
  kRelu,
  kSquaredRelu,
  kSigmoid,
  kSoftCap,
  kClampedSwiglu,
  kNone
};

/// y = f(gate) * up, or f(gate) where up.data is null. kSoftCap: limit tanh(gate / limit).
/// kClampedSwiglu: with g = min(gate, limit) and u = clamp(up, +-limit), g sigmoid(alpha g) (u + 1).
/// kNone: f(x) = x.
struct GatedArgs {
  RowInput gate;
  RowInput up;
  RowOutput y;  // may be gate or up
  Gate f = Gate::kSilu;
  float limit = 0;
  float alpha = 1;
  int32_t rows = 0;
  int32_t width = 0;
  Element element = Element::kBFloat16;
};

/// A layer's part of the KV cache, as KvLayer in include/penstock/backend.h; strides in elements. In
/// a block of one head, dimension i of the key at position p within lies at p / unit * unit * dim +
/// p % unit + i * unit, values at p * dim + i.
struct RowCache {
  void* data = nullptr;  // null: nothing is cached
  int64_t block_stride = 0;
  int64_t kv_stride = 0;  // from keys to values; 0: keys are values
  int64_t head_stride = 0;
  int64_t scales_at =
      0;  // int8: from a head's first code in a block to its float32 scales, in bytes
  int32_t block_size = 16;
  int32_t key_unit = 16;            // a divisor of block_size; 1: keys lie as values do
  const int32_t* tables = nullptr;  // [num_slots, max_blocks]; -1: nothing is written
  int32_t max_blocks = 0;
  Element element = Element::kBFloat16;
};

/// Normalises and rotates the q and k heads of x into qkv, and writes k and v to the cache.
struct RopeArgs {
  RowInput x;  // [rows, heads * head_dim]: q heads, k heads, v heads (none: keys are values)
  void* qkv = nullptr;  // [rows, heads * head_dim], element; may be x
  int64_t qkv_stride = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;           // at most 512
  const float* q_norm = nullptr;  // [head_dim]; null: none
  const float* k_norm = nullptr;  // [head_dim]; null: none
  bool v_norm = false;            // RMSNorm without a weight
  float norm_eps = 1e-6f;
  const float* cos_sin = nullptr;  // [., 2, rotary_dim / 2]; null: no rotation
  int32_t rotary_dim = 0;
  int32_t rotary_begin = 0;
  const float* q_scale = nullptr;      // of each position; null: none
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* rope_rows = nullptr;  // [rows] of cos_sin; null: positions
  const int32_t* slots = nullptr;      // [rows]; -1: a padded row, which is not cached
  RowCache cache;
  int32_t rows = 0;
  Element element = Element::kBFloat16;
};

}  // namespace penstock::PENSTOCK_KERNELS
