// The kernel of steps with items of more than 16 vectors, and how its instances are launched.
// Owns nothing. Must not know plans beyond items.
// Threads: as CUDA streams.
#pragma once

#include "kernels/attention_launch.cuh"
#include "kernels/attention_tile16.cuh"
#include "kernels/attention_tile_wide.cuh"

namespace penstock::PENSTOCK_KERNELS {

template <class T, class Kv, int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    AttentionMixedKernel(AttentionParameters a) {
  PdlWait();
  auto* shared = static_cast<unsigned char*>(DynamicShared());
  // In shared memory, since all registers are taken.
  constexpr int kItemInts = sizeof(AttentionItem) / sizeof(int32_t);
  SHARED_ARRAY(int32_t, current, kItemInts);
  const AttentionItem& item = *reinterpret_cast<const AttentionItem*>(current);
  for (int32_t i = a.cta_begin[blockIdx.x]; i < a.cta_begin[blockIdx.x + 1]; ++i) {
    if (threadIdx.x < kItemInts) {
      current[threadIdx.x] = reinterpret_cast<const int32_t*>(a.items + i)[threadIdx.x];
    }
    __syncthreads();
    if (item.tile == 16) {
      AttentionTile16<T, Kv, kDim, true>::Run(a, item, shared);
    } else if (kDim > 128 || item.tile == 64) {
      AttentionTileWide<T, Kv, kDim, 64>::Run(a, item, shared);
    } else {
      if constexpr (kDim <= 128) {
        AttentionTileWide<T, Kv, kDim, 128>::Run(a, item, shared);
      }
    }
    __syncthreads();
  }
}

template <class T, class Kv, int kDim>
cudaError_t LaunchMixedInstance(const AttentionArgs& a, cudaStream_t stream) {
  constexpr auto shared_bytes = [](int stages) {
    constexpr int kWidest = kDim <= 128 ? 128 : 64;
    const size_t narrow = AttentionTile16<T, Kv, kDim, true>::SharedBytes(stages);
    const size_t wide = AttentionTileWide<T, Kv, kDim, kWidest>::SharedBytes(stages);
    return wide > narrow ? wide : narrow;
  };
  static_assert(shared_bytes(kLeastStages) <= kLeastSharedBytes);
  const int stages = StagesThatFit(kMostStages, shared_bytes);
  if (stages == 0) return cudaErrorInvalidValue;
  const KernelShape shape{"attention_mixed", dim3(a.num_ctas), dim3(kAttentionThreads),
                          shared_bytes(stages), stream};
  return Launch(shape, AttentionMixedKernel<T, Kv, kDim>, AttentionParameters(a, stages));
}

}  // namespace penstock::PENSTOCK_KERNELS
