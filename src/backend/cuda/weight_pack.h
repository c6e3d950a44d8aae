// Puts a linear layer's rows into the order in which the GPU's kernels read them
// (kernels/weight_layout.h), in host memory. Forms that no kernel takes become numbers.
// Owns nothing. Must not know CUDA, models or files.
// Threads: confined to the loading thread; rows are read on the pool.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

/// Of rows of numbers of 16 bits.
constexpr WeightFormat WeightFormatOf(DType numbers) {
  return numbers == DType::kFloat16 ? WeightFormat::kFloat16 : WeightFormat::kBFloat16;
}

/// How the rows of one of PlanCudaWeights' segments lie.
enum class CudaWeightKind : uint8_t {
  kRows,      // segment.format, bfloat16 or float16, in plain rows
  kInt8Rows,  // code - 128 in plain rows, exact: x is rounded to integers, too
  kTiles,     // codes in tiles, as numbers
};
CudaWeightKind CudaKindOf(const LinearSegment& segment);

/// From a segment's byte_begin on.
struct CudaWeightPlace {
  size_t scales_begin = 0;  // float32 [num_rows], one of a row; at the end where there are none
  size_t bytes = 0;
};
CudaWeightPlace PlaceOf(const LinearSegment& segment, int64_t k);

/// The segments of `parts`, placed one after the other. `element`: of x, kBFloat16 or kFloat16;
/// numbers are rounded to it. Of segments of codes, `group` is 0 where a row has one scale beside its
/// codes, else as CodeLayout has it; has_book says e4m3 or e2m1; scales and offsets are float32, bfloat16 or float16.
std::vector<LinearSegment> PlanCudaWeights(absl::Span<const LinearPart> parts, int64_t k,
                                           WeightFormat element, WorkerPool& pool);
size_t CudaWeightBytes(absl::Span<const LinearSegment> segments, int64_t k);

/// Fills `out`, CudaWeightBytes of zeros.
void FillCudaWeights(absl::Span<const LinearPart> parts, int64_t k,
                     absl::Span<const LinearSegment> segments, WorkerPool& pool, std::byte* out);

}  // namespace penstock
