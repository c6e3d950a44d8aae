#include "kernels/experts.h"
#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/sample.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kRouteWarps = 4;  // a row each

/// Of n numbers in shared memory, by one warp; the sum in their order, as on the CPU.
__device__ void WarpSoftmax(float* x, int32_t n) {
  const int lane = threadIdx.x % kWarpLanes;
  float best = NegativeInfinity();
  for (int32_t i = lane; i < n; i += kWarpLanes) best = fmaxf(best, x[i]);
  for (int bit = kWarpLanes / 2; bit > 0; bit /= 2)
    best = fmaxf(best, __shfl_xor_sync(0xffffffff, best, bit));
  for (int32_t i = lane; i < n; i += kWarpLanes) x[i] = Exp(__fsub_rn(x[i], best));
  __syncwarp();
  float sum = 0;
  for (int32_t i = 0; i < n; ++i) sum = __fadd_rn(sum, x[i]);
  __syncwarp();
  for (int32_t i = lane; i < n; i += kWarpLanes) x[i] = __fdiv_rn(x[i], sum);
  __syncwarp();
}

/// What is no number is the least of all.
__device__ float Comparable(float x) { return x == x ? x : NegativeInfinity(); }

/// The best of `choice` that is a number, which it is no longer then; one is there.
__device__ int32_t TakeBest(float* choice, int32_t n) {
  ScanBest best{NegativeInfinity(), -1};
  for (int32_t i = threadIdx.x % kWarpLanes; i < n; i += kWarpLanes) {
    const ScanBest one{choice[i], i};
    if (one.score == one.score && IsBetter(one, best)) best = one;
  }
  best = WarpBest(best);
  __syncwarp();
  if (threadIdx.x % kWarpLanes == 0) choice[best.id] = __uint_as_float(0x7fc00000u);
  __syncwarp();
  return best.id;
}

/// Leaves the groups that may not be chosen from at minus infinity.
__device__ void MaskGroups(const RouterArgs& a, float* choice, float* groups) {
  const int lane = threadIdx.x % kWarpLanes;
  const int32_t size = a.num_experts / a.num_groups;
  if (lane < a.num_groups) {
    float first = NegativeInfinity();
    float second = NegativeInfinity();
    for (int32_t i = lane * size; i < (lane + 1) * size; ++i) {
      const float x = choice[i];
      second = x > first ? first : fmaxf(second, x);
      first = fmaxf(first, x);
    }
    groups[lane] = a.group_best == 1 ? first : Comparable(__fadd_rn(first, second));
  }
  __syncwarp();
  uint32_t kept = 0;
  for (int32_t i = 0; i < a.top_groups; ++i) kept |= 1u << TakeBest(groups, a.num_groups);
  for (int32_t i = lane; i < a.num_experts; i += kWarpLanes) {
    if ((kept >> i / size & 1) == 0) choice[i] = NegativeInfinity();
  }
  __syncwarp();
}

__global__ void __launch_bounds__(kRouteWarps* kWarpLanes) RouteKernel(RouterArgs a) {
  PdlTrigger();
  PdlWait();
  SHARED_ARRAY(float, all_scores, kRouteWarps* kMostExperts);
  SHARED_ARRAY(float, all_choices, kRouteWarps* kMostExperts);
  SHARED_ARRAY(float, all_chosen, kRouteWarps* kMostChosen);
  const int warp = threadIdx.x / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  const int32_t row = blockIdx.x * kRouteWarps + warp;
  if (row >= a.rows) return;
  float* score = all_scores + warp * kMostExperts;
  float* choice = all_choices + warp * kMostExperts;
  float* chosen = all_chosen + warp * kMostChosen;  // weights; before that, scores of groups
  const float* logits = a.logits + row * a.stride;
  for (int32_t i = lane; i < a.num_experts; i += kWarpLanes) {
    score[i] = a.score == RouteScore::kSigmoid ? Sigmoid(logits[i]) : logits[i];
  }
  __syncwarp();
  if (a.score == RouteScore::kSoftmax) WarpSoftmax(score, a.num_experts);
  for (int32_t i = lane; i < a.num_experts; i += kWarpLanes) {
    const float bias = a.score_bias == nullptr ? 0.0f : a.score_bias[i];
    choice[i] = Comparable(__fadd_rn(score[i], bias));
  }
  __syncwarp();
  if (a.num_groups > 1) MaskGroups(a, choice, chosen);
  const int32_t slots = a.top_k + (a.shared == SharedExpert::kNone ? 0 : 1);
  int32_t* ids = a.ids + int64_t{row} * slots;
  float* weights = a.weights + int64_t{row} * slots;
  for (int32_t i = 0; i < a.top_k; ++i) {
    const int32_t id = TakeBest(choice, a.num_experts);
    if (lane != 0) continue;
    ids[i] = id;
    chosen[i] = score[id];
  }
  __syncwarp();
  if (a.score == RouteScore::kSoftmaxOfChosen) WarpSoftmax(chosen, a.top_k);
  float divisor = 1.0f;
  if (a.normalize) {
    float sum = 0;
    for (int32_t i = 0; i < a.top_k; ++i) sum = __fadd_rn(sum, chosen[i]);
    if (sum > 0) divisor = sum;
  }
  for (int32_t i = lane; i < a.top_k; i += kWarpLanes) {
    const float weight = a.normalize ? __fdiv_rn(chosen[i], divisor) : chosen[i];
    weights[i] = __fmul_rn(weight, a.scale);
  }
  if (lane != 0 || a.shared == SharedExpert::kNone) return;
  ids[a.top_k] = a.num_experts;
  weights[a.top_k] =
      a.shared == SharedExpert::kGated ? Sigmoid(logits[a.num_experts]) : a.shared_scale;
}

}  // namespace

cudaError_t LaunchRoute(const RouterArgs& a, cudaStream_t stream) {
  if (a.num_experts > kMostExperts || a.top_k > kMostChosen || a.num_groups > kMostChosen)
    return cudaErrorInvalidValue;
  if (a.rows == 0) return cudaSuccess;
  return Launch({"route", dim3((a.rows + kRouteWarps - 1) / kRouteWarps),
                 dim3(kRouteWarps * kWarpLanes), 0, stream},
                RouteKernel, a);
}

}  // namespace penstock::PENSTOCK_KERNELS
