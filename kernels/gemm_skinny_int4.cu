#include "kernels/gemm_skinny_codes.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kMostColumns = 4;  // more rows ask more of the tensor cores than they have

template <int kColumns>
using BFloat16Int4 = CodeTiles<__nv_bfloat16, 4, false, kColumns>;
template <int kColumns>
using BFloat16Int4Offsets = CodeTiles<__nv_bfloat16, 4, true, kColumns>;
template <int kColumns>
using Float16Int4 = CodeTiles<__half, 4, false, kColumns>;
template <int kColumns>
using Float16Int4Offsets = CodeTiles<__half, 4, true, kColumns>;

}  // namespace

cudaError_t LaunchGemmInt4(const GemmArgs& a, cudaStream_t stream) {
  const GemmSplit split = SplitOfCodes(a);
  const bool offsets = a.layout.offset_kind != ScaleKind::kNone;
  if (a.element == Element::kBFloat16) {
    return offsets ? LaunchSkinny<BFloat16Int4Offsets, kMostColumns>("gemm_int4", a, split, stream)
                   : LaunchSkinny<BFloat16Int4, kMostColumns>("gemm_int4", a, split, stream);
  }
  return offsets ? LaunchSkinny<Float16Int4Offsets, kMostColumns>("gemm_int4", a, split, stream)
                 : LaunchSkinny<Float16Int4, kMostColumns>("gemm_int4", a, split, stream);
}

}  // namespace penstock::PENSTOCK_KERNELS
