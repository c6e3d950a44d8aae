// Which instance of attention takes a launch, and with how many stages of positions in flight.
// Owns nothing. Must not know what instances compute.
// Threads: as CUDA streams.
#pragma once

#include "kernels/attention_rows.cuh"

namespace penstock::PENSTOCK_KERNELS {

// In attention_decode*.cu: items of 16 vectors. In attention_mixed*.cu: any.
cudaError_t LaunchDecode(const AttentionArgs& a, cudaStream_t stream);
cudaError_t LaunchDecodeBytes(const AttentionArgs& a, cudaStream_t stream);
cudaError_t LaunchMixed(const AttentionArgs& a, cudaStream_t stream);
cudaError_t LaunchMixedBytes(const AttentionArgs& a, cudaStream_t stream);

/// The most stages that let two blocks share an SM, or that a block has room for; 0: none.
template <class Fn>
int StagesThatFit(int most, Fn shared_bytes) {
  constexpr size_t kOfTheSystem = 1024;  // that every block has besides
  const size_t limit = SharedBytesOfBlock();
  for (int stages = most; stages >= kLeastStages; --stages) {
    if (2 * (shared_bytes(stages) + kOfTheSystem) <= limit + kOfTheSystem) return stages;
  }
  for (int stages = most; stages >= kLeastStages; --stages) {
    if (shared_bytes(stages) <= limit) return stages;
  }
  return 0;
}

/// Calls fn(type, dim) with a null pointer of the element's type and the width of the instance
/// (std::integral_constant).
template <class Fn>
cudaError_t ForAttentionInstance(const AttentionArgs& a, Fn fn) {
  const auto with_dim = [&](auto* type) {
    if (a.head_dim <= 32) return fn(type, std::integral_constant<int, 32>());
    if (a.head_dim <= 64) return fn(type, std::integral_constant<int, 64>());
    if (a.head_dim <= 128) return fn(type, std::integral_constant<int, 128>());
    if (a.head_dim <= 256) return fn(type, std::integral_constant<int, 256>());
    return fn(type, std::integral_constant<int, 512>());
  };
  if (a.element == Element::kBFloat16) return with_dim(static_cast<__nv_bfloat16*>(nullptr));
  if (a.element == Element::kFloat16) return with_dim(static_cast<__half*>(nullptr));
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
