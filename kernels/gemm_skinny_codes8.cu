#include "kernels/gemm_skinny_codes.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kMostWithOffsets = 4;  // the sums of x want registers

template <int kColumns>
using BFloat16Codes8 = CodeTiles<__nv_bfloat16, 8, false, kColumns>;
template <int kColumns>
using BFloat16Codes8Offsets = CodeTiles<__nv_bfloat16, 8, true, kColumns>;
template <int kColumns>
using Float16Codes8 = CodeTiles<__half, 8, false, kColumns>;
template <int kColumns>
using Float16Codes8Offsets = CodeTiles<__half, 8, true, kColumns>;

}  // namespace

cudaError_t LaunchGemmCodes8(const GemmArgs& a, cudaStream_t stream) {
  const GemmSplit split = SplitOfCodes(a);
  const bool offsets = a.layout.offset_kind != ScaleKind::kNone;
  if (a.element == Element::kBFloat16) {
    return offsets ? LaunchSkinny<BFloat16Codes8Offsets, kMostWithOffsets>("gemm_codes8", a, split,
                                                                           stream)
                   : LaunchSkinny<BFloat16Codes8>("gemm_codes8", a, split, stream);
  }
  return offsets
             ? LaunchSkinny<Float16Codes8Offsets, kMostWithOffsets>("gemm_codes8", a, split, stream)
             : LaunchSkinny<Float16Codes8>("gemm_codes8", a, split, stream);
}

}  // namespace penstock::PENSTOCK_KERNELS
