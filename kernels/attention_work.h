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
