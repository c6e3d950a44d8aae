// What a GPU would do with a model, as far as it can be said without one.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/peer_memory.h"
#include "backend/cuda/weight_pack.h"
#include "kernels/delta.h"
#include "kernels/experts.h"

namespace penstock {

DeviceAbilities CudaAbilities(DType numbers) {
  return {.float32 = false,
          .numbers = numbers,
          .delta_keys = kernels::kMostDeltaKeys,
          .head_dim = 512,
          .head_dim_unit = 4,
          .experts = kernels::kMostExperts,
          .top_experts = kernels::kMostChosen,
          .expert_groups = 32};
}

size_t PlanCudaPacking(int64_t k, absl::Span<const LinearPart> parts, DType numbers,
                       WorkerPool& pool, std::vector<LinearSegment>& segments) {
  segments = PlanCudaWeights(parts, k, WeightFormatOf(numbers), pool);
  return CudaWeightBytes(segments, k);
}

size_t PeerCollectiveBytes(int32_t size) { return kernels::PeerMemoryOf(size).bytes; }

}  // namespace penstock
