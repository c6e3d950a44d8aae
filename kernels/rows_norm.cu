#include <type_traits>

#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kLanes = 256;  // of the sum; also the threads of a CTA

template <class T>
__global__ void __launch_bounds__(kLanes) EmbedKernel(EmbedArgs args) {
  PdlWait();
  const int64_t row = blockIdx.x;
  const T* from = static_cast<const T*>(args.table) + int64_t{args.ids[row]} * args.width;
  T* to = static_cast<T*>(args.y) + row * args.width;
  for (int32_t i = threadIdx.x; i < args.width; i += kLanes) to[i] = from[i];
}

template <class T>
__global__ void __launch_bounds__(kLanes) RmsNormKernel(RmsNormArgs args) {
  PdlWait();
  SHARED_ARRAY(float, lanes, kLanes);
  const T* x = static_cast<const T*>(args.x) + int64_t{blockIdx.x} * args.width;
  T* y = static_cast<T*>(args.y) + int64_t{blockIdx.x} * args.width;
  float sum = 0.0f;
  for (int32_t i = threadIdx.x; i < args.width; i += kLanes) {
    const float v = ToFloat(x[i]);
    sum = __fmaf_rn(v, v, sum);
  }
  lanes[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kLanes / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) lanes[threadIdx.x] += lanes[threadIdx.x + half];
    __syncthreads();
  }
  const float mean = __fdiv_rn(lanes[0], static_cast<float>(args.width));
  const float inverse = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, args.eps)));
  for (int32_t i = threadIdx.x; i < args.width; i += kLanes) {
    y[i] = FromFloat<T>(__fmul_rn(__fmul_rn(ToFloat(x[i]), inverse), args.weight[i]));
  }
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  return ForElement(args.element, [&](auto* type) {
    return Launch({"embed", dim3(args.rows), dim3(kLanes), 0, stream},
                  EmbedKernel<std::remove_pointer_t<decltype(type)>>, args);
  });
}

cudaError_t LaunchRmsNorm(const RmsNormArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  return ForElement(args.element, [&](auto* type) {
    return Launch({"rms_norm", dim3(args.rows), dim3(kLanes), 0, stream},
                  RmsNormKernel<std::remove_pointer_t<decltype(type)>>, args);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
