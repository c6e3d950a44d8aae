#include "kernels/attention_decode.cuh"

namespace penstock::PENSTOCK_KERNELS {

cudaError_t LaunchDecodeBytes(const AttentionArgs& a, cudaStream_t stream) {
  return ForAttentionInstance(a, [&](auto* type, auto dim) {
    using T = std::remove_pointer_t<decltype(type)>;
    return LaunchDecodeInstance<T, int8_t, dim()>(a, stream);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
