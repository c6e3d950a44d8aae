// Elements of rows as float32 and back, one rounding each way.
// Owns nothing. Must not know kernels.
// Threads: device code.
#pragma once

#include "kernels/ptx.cuh"
#include "kernels/rows.h"
#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

__device__ inline float ToFloat(float v) { return v; }
__device__ inline float ToFloat(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ inline float ToFloat(__half v) { return __half2float(v); }

template <class T>
__device__ T FromFloat(float v);
template <>
__device__ inline float FromFloat<float>(float v) {
  return v;
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ inline __half FromFloat<__half>(float v) {
  return __float2half_rn(v);
}

/// Calls fn with a null pointer of the element's type; picks a kernel's instance.
template <class Fn>
cudaError_t ForElement(Element element, Fn fn) {
  switch (element) {
    case Element::kFloat32:
      return fn(static_cast<float*>(nullptr));
    case Element::kBFloat16:
      return fn(static_cast<__nv_bfloat16*>(nullptr));
    case Element::kFloat16:
      return fn(static_cast<__half*>(nullptr));
  }
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
