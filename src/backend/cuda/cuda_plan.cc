// What a GPU would do with a model, as far as it can be said without one.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/weight_pack.h"
#include "kernels/experts.h"

namespace penstock {

DeviceAbilities CudaAbilities() {
  return {.float32 = false,
          .encode = false,
          .delta_rule = false,
          .head_dim = 512,
          .head_dim_unit = 4,
          .experts = kernels::kMostExperts,
          .top_experts = kernels::kMostChosen,
          .expert_groups = 32};
}

size_t PlanCudaPacking(int64_t k, absl::Span<const LinearPart> parts, WorkerPool& pool,
                       std::vector<LinearSegment>& segments) {
  segments = PlanCudaWeights(parts, k, WeightFormat::kBFloat16, pool);
  return CudaWeightBytes(segments, k);
}

}  // namespace penstock
