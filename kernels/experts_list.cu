#include "kernels/experts.h"
#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kListThreads = 1024;
constexpr int kListWarps = kListThreads / 32;
constexpr int kSumThreads = 256;

/// Writes an expert's visits, in order, from `at` on; by one warp.
__device__ void ListVisits(const ExpertListArgs& a, int32_t expert, int32_t at) {
  const int lane = threadIdx.x % 32;
  for (int32_t first = 0; first < a.visits; first += 32) {
    const int32_t visit = first + lane;
    const bool comes = visit < a.visits && a.ids[visit] - a.first_expert == expert;
    const unsigned all = __ballot_sync(0xffffffff, comes);
    if (comes) a.list.order[at + __popc(all & ((1u << lane) - 1))] = visit;
    at += __popc(all);
  }
}

__global__ void __launch_bounds__(kListThreads) ListKernel(ExpertListArgs a) {
  PdlTrigger();
  PdlWait();
  SHARED_ARRAY(int32_t, counts, kMostExperts);
  SHARED_ARRAY(int32_t, begins, kMostExperts);
  SHARED_ARRAY(int32_t, first_blocks, kMostExperts);
  for (int32_t e = threadIdx.x; e < a.num_experts; e += kListThreads) counts[e] = 0;
  __syncthreads();
  for (int32_t i = threadIdx.x; i < a.visits; i += kListThreads) {
    const int32_t e = a.ids[i] - a.first_expert;
    if (e >= 0 && e < a.num_experts) atomicAdd(&counts[e], 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t visits = 0;
    int32_t blocks = 0;
    for (int32_t e = 0; e < a.num_experts; ++e) {
      begins[e] = visits;
      first_blocks[e] = blocks;
      visits += counts[e];
      blocks += (counts[e] + a.block_rows - 1) / a.block_rows;
    }
    *a.list.num_blocks = blocks;
  }
  __syncthreads();
  for (int32_t e = threadIdx.x / 32; e < a.num_experts; e += kListWarps) {
    if (counts[e] == 0) continue;
    ListVisits(a, e, begins[e]);
    const int32_t end = begins[e] + counts[e];
    for (int32_t b = threadIdx.x % 32; b * a.block_rows < counts[e]; b += 32) {
      int32_t* block = a.list.blocks + 3 * (first_blocks[e] + b);
      block[0] = e;
      block[1] = begins[e] + b * a.block_rows;
      block[2] = min(block[1] + a.block_rows, end);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kSumThreads) SumKernel(ExpertSumArgs a) {
  PdlTrigger();
  PdlWait();
  const int32_t column = blockIdx.x * kSumThreads + threadIdx.x;
  const int64_t row = blockIdx.y;
  if (column >= a.width) return;
  const float* out = a.out + row * a.slots * a.width + column;
  const float* weights = a.weights + row * a.slots;
  float sum = __fmul_rn(out[0], weights[0]);
  for (int32_t s = 1; s < a.slots; ++s) {
    sum = __fmaf_rn(weights[s], out[int64_t{s} * a.width], sum);
  }
  T* y = static_cast<T*>(a.y) + row * a.y_stride + column;
  *y = FromFloat<T>(__fadd_rn(ToFloat(*y), sum));
}

}  // namespace

cudaError_t LaunchExpertList(const ExpertListArgs& a, cudaStream_t stream) {
  if (a.num_experts > kMostExperts || a.block_rows <= 0) return cudaErrorInvalidValue;
  return Launch({"expert_list", dim3(1), dim3(kListThreads), 0, stream}, ListKernel, a);
}

cudaError_t LaunchExpertSum(const ExpertSumArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  const KernelShape shape{"expert_sum", dim3((a.width + kSumThreads - 1) / kSumThreads, a.rows),
                          dim3(kSumThreads), 0, stream};
  return ForElement(a.element, [&](auto* element) {
    return Launch(shape, SumKernel<std::remove_pointer_t<decltype(element)>>, a);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
