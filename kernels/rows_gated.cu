#include <type_traits>

#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) GatedSiluKernel(GatedSiluArgs args) {
  PdlWait();
  const T* gate = static_cast<const T*>(args.x) + int64_t{blockIdx.x} * 2 * args.width;
  const T* up = gate + args.width;
  T* y = static_cast<T*>(args.y) + int64_t{blockIdx.x} * args.width;
  for (int32_t i = threadIdx.x; i < args.width; i += kThreads) {
    const float g = ToFloat(gate[i]);
    y[i] = FromFloat<T>(__fmul_rn(__fdiv_rn(g, __fadd_rn(1.0f, expf(-g))), ToFloat(up[i])));
  }
}

}  // namespace

cudaError_t LaunchGatedSilu(const GatedSiluArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  return ForElement(args.element, [&](auto* type) {
    return Launch({"gated_silu", dim3(args.rows), dim3(kThreads), 0, stream},
                  GatedSiluKernel<std::remove_pointer_t<decltype(type)>>, args);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
