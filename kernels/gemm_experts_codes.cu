#include "kernels/gemm_experts.cuh"
#include "kernels/gemm_skinny_codes.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

/// One template argument of CodeTiles left open.
template <class T, int kBits, bool kOffsets>
struct Codes {
  template <int kColumns>
  using Tiles = CodeTiles<T, kBits, kOffsets, kColumns>;
};

template <class T>
cudaError_t LaunchCodes(const ExpertGemmArgs& a, cudaStream_t stream) {
  const int32_t steps = a.gemm.layout.steps(a.gemm.k);
  const bool offsets = a.gemm.layout.offset_kind != ScaleKind::kNone;
  if (a.gemm.layout.bits == 4) {
    return offsets ? LaunchExperts<Codes<T, 4, true>::template Tiles>(a, steps, stream)
                   : LaunchExperts<Codes<T, 4, false>::template Tiles>(a, steps, stream);
  }
  return offsets ? LaunchExperts<Codes<T, 8, true>::template Tiles>(a, steps, stream)
                 : LaunchExperts<Codes<T, 8, false>::template Tiles>(a, steps, stream);
}

}  // namespace

cudaError_t LaunchExpertGemmCodes(const ExpertGemmArgs& a, cudaStream_t stream) {
  if (!a.gemm.layout.is_valid()) return cudaErrorInvalidValue;
  if (a.gemm.element == Element::kBFloat16) return LaunchCodes<__nv_bfloat16>(a, stream);
  return a.gemm.element == Element::kFloat16 ? LaunchCodes<__half>(a, stream)
                                             : cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
