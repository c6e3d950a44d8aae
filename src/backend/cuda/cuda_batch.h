// A step's rows as the kernels see them: positions, block tables and attention's plan, on the device.
// Layers of one step share what they have in common.
// Owns the copies. Must not know models.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_staging.h"
#include "kernels/attention_work.h"

namespace penstock::PENSTOCK_KERNELS {

class CudaBatch {
 public:
  CudaBatch(CudaStaging* staging, Determinism determinism)
      : staging_(*staging), determinism_(determinism) {}

  /// Fills positions, rope_rows, slots and cache.
  void Fill(const BatchRows& batch, const KvLayer& cache, RopeArgs& args);
  /// Fills cache, the plan and room for partial results; args says group, window, heads and dim.
  /// sees_all: rows see their whole sequence, all of which is in the batch. In batches of few rows, or
  /// where that is promised of all, a row's bits depend on no other.
  void Fill(const BatchRows& batch, const KvLayer& cache, int32_t num_ctas, bool sees_all,
            AttentionArgs& args);

 private:
  /// The blocks of the batch's sequences, one sequence after the other.
  struct Tables {
    const BlockId* of = nullptr;  // the host's
    std::vector<int32_t> begins;  // of each sequence
    std::vector<BlockId> blocks;
    std::vector<int32_t> row_begins;  // of each row's sequence
    SentArray sent_blocks;
    SentArray sent_rows;
  };
  /// A plan and what it was made for.
  struct Plan {
    AttentionPlanOptions options;
    std::vector<SequenceRows> sequences;
    AttentionPlan plan;
    SentArray sent;
    size_t items_at = 0, merges_at = 0, num_merges_at = 0;
  };

  Tables& TablesOf(const BatchRows& batch, const KvLayer& cache);
  RowCache CacheOf(const KvLayer& cache, Tables& tables);
  Plan& PlanOf(const AttentionPlanOptions& options, std::vector<SequenceRows> sequences);

  CudaStaging& staging_;
  Determinism determinism_;
  SentArray positions_;
  SentArray rope_rows_;
  std::vector<std::unique_ptr<Tables>> tables_;
  std::vector<std::unique_ptr<Plan>> plans_;  // the last used last
  Upload upload_;
  Scratch partials_;
  Scratch partial_sums_;
};

}  // namespace penstock::PENSTOCK_KERNELS
