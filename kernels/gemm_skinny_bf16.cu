#include "kernels/gemm_skinny.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

template <int kColumns>
using BFloat16Rows = PlainRows<__nv_bfloat16, kColumns>;
template <int kColumns>
using Float16Rows = PlainRows<__half, kColumns>;

}  // namespace

cudaError_t LaunchGemm(const GemmArgs& a, cudaStream_t stream) {
  if (a.has_codes) {
    const bool number = a.element == Element::kBFloat16 || a.element == Element::kFloat16;
    if (!number || !a.layout.is_valid()) return cudaErrorInvalidValue;
    return a.layout.bits == 4 ? LaunchGemmInt4(a, stream) : LaunchGemmCodes8(a, stream);
  }
  switch (a.element) {
    case Element::kBFloat16:
      return LaunchSkinny<BFloat16Rows>("gemm_bf16", a, SplitOfRows<__nv_bfloat16>(a), stream);
    case Element::kFloat16:
      return LaunchSkinny<Float16Rows>("gemm_fp16", a, SplitOfRows<__half>(a), stream);
    case Element::kInt8:
      return LaunchGemmInt8(a, stream);
    case Element::kFloat32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
