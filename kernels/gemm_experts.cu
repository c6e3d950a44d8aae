#include "kernels/gemm_experts.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

template <int kColumns>
using BFloat16Rows = PlainRows<__nv_bfloat16, kColumns>;
template <int kColumns>
using Float16Rows = PlainRows<__half, kColumns>;
template <int kColumns>
using Int8Rows = PlainRows<int8_t, kColumns>;

}  // namespace

cudaError_t LaunchExpertGemm(const ExpertGemmArgs& a, cudaStream_t stream) {
  if (a.gemm.m == 0) return cudaSuccess;
  if (a.gemm.has_codes) return LaunchExpertGemmCodes(a, stream);
  switch (a.gemm.element) {
    case Element::kBFloat16:
      return LaunchExperts<BFloat16Rows>(a, SplitOfRows<__nv_bfloat16>(a.gemm).steps, stream);
    case Element::kFloat16:
      return LaunchExperts<Float16Rows>(a, SplitOfRows<__half>(a.gemm).steps, stream);
    case Element::kInt8:
      return LaunchExperts<Int8Rows>(a, SplitOfRows<int8_t>(a.gemm).steps, stream);
    case Element::kFloat32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
