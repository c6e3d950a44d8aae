#include "kernels/attention_rows.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

/// A vector whose positions were split into chunks, which are summed in their order.
template <class T>
__device__ void WarpMerge(const AttentionParameters& a, const AttentionMerge& merge, int32_t i) {
  const int lane = threadIdx.x % 32;
  const int64_t first = merge.partial + int64_t{i};
  const float* log_sums = a.partial_sums + first;
  float most = MinusInfinity();
  for (int32_t c = 0; c < merge.num_chunks; ++c) {
    most = fmaxf(most, log_sums[int64_t{c} * merge.num_vectors]);
  }
  const float base = most == MinusInfinity() ? 0.0f : most;
  float sum = 0.0f;
  for (int32_t c = 0; c < merge.num_chunks; ++c) {
    sum += FastExp2(log_sums[int64_t{c} * merge.num_vectors] - base);
  }
  const VectorPlace place = PlaceOf(a, merge.head_begin, merge.kv_head, i);
  float share = 1.0f;
  if (a.sinks != nullptr) share = ShareBeside(a.sinks[place.head] * kLog2E, LogSum(base, sum));
  T* y = static_cast<T*>(a.y) + (int64_t{merge.row_begin} + place.row) * a.y_stride +
         int64_t{place.head} * a.head_dim;
  for (int32_t dim = 4 * lane; dim < a.head_dim; dim += 128) {
    float v[4] = {};
    for (int32_t c = 0; c < merge.num_chunks; ++c) {
      const float weight = FastExp2(log_sums[int64_t{c} * merge.num_vectors] - base);
      const float4 part = *reinterpret_cast<const float4*>(
          a.partials + (first + int64_t{c} * merge.num_vectors) * a.head_dim + dim);
      v[0] = fmaf(weight, part.x, v[0]);
      v[1] = fmaf(weight, part.y, v[1]);
      v[2] = fmaf(weight, part.z, v[2]);
      v[3] = fmaf(weight, part.w, v[3]);
    }
    for (float& x : v) x = __fmul_rn(__fdiv_rn(x, sum), share);
    StoreRun(y + dim, v);
  }
}

template <class T>
__global__ void __launch_bounds__(kAttentionThreads) AttentionMergeKernel(AttentionParameters a) {
  PdlWait();
  PdlTrigger();
  const int32_t count = a.num_merges[0];
  for (int32_t m = blockIdx.x; m < count; m += gridDim.x) {
    const AttentionMerge merge = a.merges[m];
    for (int32_t i = threadIdx.x / 32; i < merge.num_vectors; i += kAttentionThreads / 32) {
      WarpMerge<T>(a, merge, i);
    }
  }
}

}  // namespace

cudaError_t LaunchAttentionMerge(const AttentionArgs& a, cudaStream_t stream) {
  if (a.merge_ctas == 0) return cudaSuccess;
  const KernelShape shape{"attention_merge", dim3(a.merge_ctas), dim3(kAttentionThreads), 0,
                          stream};
  if (a.element == Element::kBFloat16)
    return Launch(shape, AttentionMergeKernel<__nv_bfloat16>, AttentionParameters(a));
  if (a.element == Element::kFloat16)
    return Launch(shape, AttentionMergeKernel<__half>, AttentionParameters(a));
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
