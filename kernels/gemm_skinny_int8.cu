#include "kernels/gemm_skinny.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

template <int kColumns>
using Int8Rows = PlainRows<int8_t, kColumns>;

}  // namespace

cudaError_t LaunchGemmInt8(const GemmArgs& a, cudaStream_t stream) {
  return LaunchSkinny<Int8Rows>("gemm_int8", a, SplitOfRows<int8_t>(a), stream);
}

}  // namespace penstock::PENSTOCK_KERNELS
