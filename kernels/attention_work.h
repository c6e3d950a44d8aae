// What paged attention works on: items of a plan, how partial results are merged, a launch's arguments.
// Owns nothing. Plain C++. The items are in the server's own namespace, since the planner makes them
// for GPU and emulator alike. Must not know classes of the server.
// Threads: value.
#pragma once

#include <cstdint>

#include "kernels/namespace.h"
#include "kernels/rows.h"

namespace penstock {

/// One piece of work of a CTA: some query vectors that share a KV head, against some positions. Vector
/// i is head kv_head * group + (head_begin + i) % group of row row_begin + (head_begin + i) / group,
/// which is at position `position` + (head_begin + i) / group.
struct AttentionItem {
  int32_t slot = 0;  // of the block tables
  int32_t kv_head = 0;
  int32_t row_begin = 0;   // of the batch
  int32_t position = 0;    // of row_begin
  int32_t head_begin = 0;  // in [0, group)
  int32_t num_vectors = 0;
  int32_t kv_begin = 0;  // positions; a vector sees those of them that are not after its own
  int32_t kv_end = 0;
  int32_t partial = -1;  // where its vectors' partial results begin; -1: these are the whole
  int32_t tile = 16;     // vectors that the kernel takes together: 16, 64 or 128
};

/// Vectors whose positions were split: chunk c of vector i is partial result partial + c *
/// num_vectors + i. Otherwise as AttentionItem.
struct AttentionMerge {
  int32_t kv_head = 0;
  int32_t row_begin = 0;
  int32_t head_begin = 0;
  int32_t num_vectors = 0;
  int32_t partial = 0;
  int32_t num_chunks = 0;
};

// They are copied to the device as they are.
static_assert(sizeof(AttentionItem) == 10 * sizeof(int32_t));
static_assert(sizeof(AttentionMerge) == 6 * sizeof(int32_t));

}  // namespace penstock

namespace penstock::PENSTOCK_KERNELS {

/// The widest tile that there is for heads of this size; key_unit is 1 where keys are values.
constexpr int32_t WidestAttentionTile(int32_t head_dim, int32_t key_unit) {
  return key_unit == 1 || head_dim > 256 ? 16 : head_dim > 128 ? 64 : 128;
}

/// y = softmax(scale q k^T, soft-capped) v over the cached positions (p - window, p], p a row's own.
/// What is cached at other positions of the item takes no part, unless it is a value of 16 bits that
/// is no number.
struct AttentionArgs {
  const void* q = nullptr;  // [rows, num_heads * head_dim], element
  int64_t q_stride = 0;
  void* y = nullptr;  // [rows, num_heads * head_dim], element; rows of no item are left alone
  int64_t y_stride = 0;
  int32_t num_kv_heads = 0;
  int32_t group = 1;     // query heads of a KV head
  int32_t head_dim = 0;  // a multiple of 4, at most 512
  float scale = 1.0f;
  float soft_cap = 0.0f;         // c > 0: c tanh(score / c)
  int32_t window = 0;            // 0: everything up to p
  const float* sinks = nullptr;  // [num_heads] a logit that takes its share; null: none
  RowCache cache;  // of `element` or int8; key_unit 16, or 1; block_size a multiple of 16
  // The plan.
  const int32_t* cta_begin = nullptr;  // [num_ctas + 1], into items
  const AttentionItem* items = nullptr;
  const AttentionMerge* merges = nullptr;
  const int32_t* num_merges = nullptr;  // [1]
  int32_t num_ctas = 0;
  int32_t merge_ctas = 0;
  int32_t widest_tile = 16;
  // Partial results of one vector each: what it would be were there no other positions, and the
  // binary logarithm of the sum that it was divided by.
  float* partials = nullptr;      // [., head_dim]
  float* partial_sums = nullptr;  // [.]
  Element element = Element::kBFloat16;
};

}  // namespace penstock::PENSTOCK_KERNELS
