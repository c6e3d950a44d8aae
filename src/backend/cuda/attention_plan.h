// Which CTA attends from which rows to which positions: a step's sequences become a work list of
// about equal loads (gpu.md, section 3.5), and a list of what must be merged afterwards.
// Owns nothing. No CUDA header: built and tested everywhere. Must not know tensors or models.
// Threads: a plan is confined to one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/attention_work.h"
#include "penstock/backend.h"

namespace penstock {

constexpr int32_t kDeterministicChunk = 512;

struct AttentionPlanOptions {
  int32_t num_kv_heads = 1;
  int32_t group = 1;     // query heads of a KV head
  int32_t window = 0;    // 0: everything up to a row's own position
  int32_t num_ctas = 1;  // that run at a time
  int32_t widest_tile =
      128;  // 16, 64 or 128; with 16 a row's result depends on its batch in nothing
            // but the chunk
  int32_t positions_at_a_time = 64;  // of a tile; divides 256
  int32_t sees_all = 0;  // 1: rows see their whole sequence, which begins and ends in the batch
  int32_t chunk = 0;     // positions of an item, from multiples of it on; 0: what balances the load
};

struct AttentionPlan {
  int32_t widest_tile = 16;        // of the items
  int32_t chunk = 0;               // 0: no item is split
  int32_t num_partials = 0;        // partial results of one vector each
  std::vector<int32_t> cta_begin;  // [num_ctas + 1], into items
  std::vector<AttentionItem> items;
  std::vector<AttentionMerge> merges;
};

/// Every row of `sequences` sees every position of its window up to its own, or of its sequence, in
/// exactly one item per KV head. Chunks begin at multiples of their length, so that what a row adds up, and in which
/// order, depends on its position and the chunk alone. `plan` keeps its memory.
void PlanAttention(const AttentionPlanOptions& options, absl::Span<const SequenceRows> sequences,
                   AttentionPlan& plan);

/// The time of an item in a unit of its own, by a model that nothing has measured yet.
int64_t AttentionCost(const AttentionPlanOptions& options, const AttentionItem& item);

/// What no plan exceeds for steps of at most `max_rows` rows of `max_sequences` sequences below
/// position `max_positions`.
struct AttentionPlanBounds {
  int64_t items = 0;
  int64_t merges = 0;
  int64_t partials = 0;
};
AttentionPlanBounds BoundAttentionPlan(const AttentionPlanOptions& options, int64_t max_rows,
                                       int64_t max_sequences, int64_t max_positions);

}  // namespace penstock
