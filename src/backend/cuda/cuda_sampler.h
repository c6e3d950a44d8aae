// Draws and scores tokens on the device and waits for them: rules go there as one array, tokens and
// scores come back as one.
// Owns the copies and scratch. Must not know slots or sequences.
// Threads: confined to one rank's thread.
#pragma once

#include <vector>

#include "backend/cuda/cuda_staging.h"
#include "kernels/sample.h"

namespace penstock::PENSTOCK_KERNELS {

class CudaSampler {
 public:
  explicit CudaSampler(CudaStaging* staging) : staging_(*staging) {}

  void Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
              absl::Span<SampledToken> tokens);
  void Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
             absl::Span<SampledToken> tokens);

 private:
  /// Where in the upload a row's arrays begin.
  struct RowArrays {
    size_t counts, mask, bias_ids, bias, banned, allowed, also;
    int32_t num_also;
  };
  /// What is wanted of a token beside itself, and where it lies among the results.
  struct Wanted {
    size_t token = 0;  // of the call's
    int32_t num_top = 0;
    int32_t num_also = 0;
    size_t scores_at = 0;
  };

  RowArrays AddArrays(const SampleRow& row, int32_t vocab);
  ScanRow RowOf(const SampleRow& row, const RowArrays& arrays, const std::byte* base) const;
  void Draw(const Tensor& logits, const std::vector<ScanRow>& scan,
            const std::vector<ScanRow>& filter, const std::byte* scan_rows,
            const std::byte* filter_rows, int32_t* tokens);
  /// Waits for `bytes` of results; null after a fault.
  const std::byte* ReadResults(size_t bytes);
  static void Fill(const Wanted& wanted, const std::byte* results, SampledToken& token);
  /// Longer lists than the kernel makes.
  void ScoreOnHost(const Tensor& logits, int64_t row, int32_t num_top,
                   absl::Span<const TokenId> also, SampledToken& token);

  CudaStaging& staging_;
  Upload upload_;
  Scratch sent_, results_, best_, scaled_;
  PinnedMemory read_;
};

}  // namespace penstock::PENSTOCK_KERNELS
