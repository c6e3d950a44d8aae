// The kernel of steps whose items have at most 16 vectors, and how its instances are launched.
// Owns nothing. Must not know plans beyond items.
// Threads: as CUDA streams.
#pragma once

#include "kernels/attention_launch.cuh"
#include "kernels/attention_tile16.cuh"

namespace penstock::PENSTOCK_KERNELS {

template <class T, class Kv, int kDim, bool kInterleaved>
__global__ void __launch_bounds__(kAttentionThreads, kDim <= 128 ? 3 : 2)
    AttentionDecodeKernel(AttentionParameters a) {
  PdlWait();
  auto* shared = static_cast<unsigned char*>(DynamicShared());
  for (int32_t i = a.cta_begin[blockIdx.x]; i < a.cta_begin[blockIdx.x + 1]; ++i) {
    const AttentionItem item = a.items[i];
    AttentionTile16<T, Kv, kDim, kInterleaved>::Run(a, item, shared);
    __syncthreads();
  }
}

template <class T, class Kv, int kDim>
cudaError_t LaunchDecodeInstance(const AttentionArgs& a, cudaStream_t stream) {
  const auto launch = [&](auto interleaved) {
    constexpr bool kInterleaved = decltype(interleaved)::value;
    using Tile = AttentionTile16<T, Kv, kDim, kInterleaved>;
    static_assert(Tile::SharedBytes(kLeastStages) <= kLeastSharedBytes);
    const int stages = StagesThatFit(kMostStages, Tile::SharedBytes);
    if (stages == 0) return cudaErrorInvalidValue;
    const KernelShape shape{"attention_decode", dim3(a.num_ctas), dim3(kAttentionThreads),
                            Tile::SharedBytes(stages), stream};
    return Launch(shape, AttentionDecodeKernel<T, Kv, kDim, kInterleaved>,
                  AttentionParameters(a, stages));
  };
  const bool interleaved = a.cache.key_unit != 1 && a.cache.kv_stride != 0;
  return interleaved ? launch(std::true_type()) : launch(std::false_type());
}

}  // namespace penstock::PENSTOCK_KERNELS
