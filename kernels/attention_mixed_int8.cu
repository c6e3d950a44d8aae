#include "kernels/attention_mixed.cuh"

namespace penstock::PENSTOCK_KERNELS {

cudaError_t LaunchMixedBytes(const AttentionArgs& a, cudaStream_t stream) {
  return ForAttentionInstance(a, [&](auto* type, auto dim) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (dim() > 256) {
      return cudaErrorInvalidValue;
    } else {
      return LaunchMixedInstance<T, int8_t, dim()>(a, stream);
    }
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
