// Elements of rows as float32 and back, one rounding each way, and the functions whose every rounding
// both backends share: the CPU's are in backend/cpu/simd.h.
// Owns nothing. Must not know kernels.
// Threads: device code.
#pragma once

#include "kernels/ptx.cuh"
#include "kernels/rows.h"
#include "kernels/runtime.h"
#include "kernels/weight_layout.h"

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
/// What a T holds after storing v.
template <class T>
__device__ inline float Rounded(float v) {
  return ToFloat(FromFloat<T>(v));
}

// kCount (1 or 8) elements from p on; 8 are 16 or 32 bytes, aligned to 16.
template <int kCount>
__device__ inline void Load(const float* p, float (&v)[kCount]) {
  if constexpr (kCount == 1) {
    v[0] = *p;
  } else {
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(p + i);
      v[i] = four.x;
      v[i + 1] = four.y;
      v[i + 2] = four.z;
      v[i + 3] = four.w;
    }
  }
}
template <int kCount>
__device__ inline void Load(const int32_t* p, int32_t (&v)[kCount]) {
  if constexpr (kCount == 1) {
    v[0] = *p;
  } else {
    for (int i = 0; i < kCount; i += 4) {
      const int4 four = *reinterpret_cast<const int4*>(p + i);
      v[i] = four.x;
      v[i + 1] = four.y;
      v[i + 2] = four.z;
      v[i + 3] = four.w;
    }
  }
}
__device__ inline float HalfOf(uint32_t pair, int which, __nv_bfloat16) {
  return __uint_as_float(which == 0 ? pair << 16 : pair & 0xffff0000u);
}
__device__ inline float HalfOf(uint32_t pair, int which, __half) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16 * which)));
}
template <class T, int kCount>
__device__ inline void Load(const T* p, float (&v)[kCount]) {
  if constexpr (kCount == 1) {
    v[0] = ToFloat(*p);
  } else {
    const uint4 bits = *reinterpret_cast<const uint4*>(p);
    for (int i = 0; i < 2; ++i) {
      v[i] = HalfOf(bits.x, i, T());
      v[2 + i] = HalfOf(bits.y, i, T());
      v[4 + i] = HalfOf(bits.z, i, T());
      v[6 + i] = HalfOf(bits.w, i, T());
    }
  }
}

template <int kCount>
__device__ inline void Store(float* p, const float (&v)[kCount]) {
  if constexpr (kCount == 1) {
    *p = v[0];
  } else {
    for (int i = 0; i < kCount; i += 4) {
      *reinterpret_cast<float4*>(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
    }
  }
}
__device__ inline uint32_t BitsOf(__nv_bfloat16 v) { return __bfloat16_as_ushort(v); }
__device__ inline uint32_t BitsOf(__half v) { return __half_as_ushort(v); }
template <class T>
__device__ inline uint32_t PairOf(float low, float high) {
  return BitsOf(FromFloat<T>(low)) | BitsOf(FromFloat<T>(high)) << 16;
}
template <class T, int kCount>
__device__ inline void Store(T* p, const float (&v)[kCount]) {
  if constexpr (kCount == 1) {
    *p = FromFloat<T>(v[0]);
  } else {
    *reinterpret_cast<uint4*>(p) = make_uint4(PairOf<T>(v[0], v[1]), PairOf<T>(v[2], v[3]),
                                              PairOf<T>(v[4], v[5]), PairOf<T>(v[6], v[7]));
  }
}

/// Of scales or offsets of weights.
__device__ inline float ScaleAt(ScaleKind kind, const unsigned char* scales, int i) {
  if (kind == ScaleKind::kFloat32) return reinterpret_cast<const float*>(scales)[i];
  const unsigned short bits = reinterpret_cast<const unsigned short*>(scales)[i];
  return kind == ScaleKind::kBFloat16 ? __uint_as_float(uint32_t{bits} << 16)
                                      : __half2float(__ushort_as_half(bits));
}

/// e^x to about 2 units in the last place; 0 below -87.3, clamped above 88.3.
__device__ inline float Exp(float x) {
  constexpr float kLowest = -87.3f;
  const float c = fminf(fmaxf(x, kLowest), 88.3f);
  const float n = rintf(__fmul_rn(c, 1.44269504f));
  float r = __fmaf_rn(n, -0.693359375f, c);
  r = __fmaf_rn(n, 2.12194440e-4f, r);
  float p = 1.0f / 5040;
  p = __fmaf_rn(p, r, 1.0f / 720);
  p = __fmaf_rn(p, r, 1.0f / 120);
  p = __fmaf_rn(p, r, 1.0f / 24);
  p = __fmaf_rn(p, r, 1.0f / 6);
  p = __fmaf_rn(p, r, 0.5f);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  const float power = __uint_as_float(static_cast<unsigned>(__float2int_rn(n) + 127) << 23);
  return x >= kLowest ? __fmul_rn(p, power) : 0.0f;
}
__device__ inline float Sigmoid(float x) {
  return __fdiv_rn(1.0f, __fadd_rn(1.0f, Exp(__fsub_rn(0.0f, x))));
}

/// The natural logarithm of a normal positive number, to about 1 unit in the last place: of 1 + f,
/// |f| < 0.42, f - f^2 / 2 + f^3 p(f).
__device__ inline float Log(float x) {
  const uint32_t bits = __float_as_uint(x);
  const uint32_t above = bits - 0x3f3504f3u;  // from the root of 1/2 on
  const int exponent = static_cast<int>(above) >> 23;
  const float f = __fsub_rn(__uint_as_float(bits - (static_cast<uint32_t>(exponent) << 23)), 1.0f);
  float p = 0.0697161147f;
  p = __fmaf_rn(p, f, -0.114797338f);
  p = __fmaf_rn(p, f, 0.116854199f);
  p = __fmaf_rn(p, f, -0.124256873f);
  p = __fmaf_rn(p, f, 0.142490576f);
  p = __fmaf_rn(p, f, -0.166678023f);
  p = __fmaf_rn(p, f, 0.200007157f);
  p = __fmaf_rn(p, f, -0.24999997f);
  p = __fmaf_rn(p, f, 0.333333312f);
  const float square = __fmul_rn(f, f);
  const float n = static_cast<float>(exponent);
  const float curve = __fmaf_rn(__fmul_rn(square, f), p, __fmul_rn(n, -2.12194440e-4f));
  const float low = __fmaf_rn(-0.5f, square, curve);
  return __fmaf_rn(n, 0.693359375f, __fadd_rn(f, low));
}

/// The inverse of a row's root mean square.
__device__ inline float InverseRoot(float sum_of_squares, int32_t n, float eps) {
  const float mean = __fdiv_rn(sum_of_squares, static_cast<float>(n));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
}

/// How a row whose largest magnitude is `amax` is rounded to int8.
struct ByteScale {
  float scale;
  float inverse;
};
__device__ inline ByteScale ByteScaleOf(float amax, bool finite) {
  const float inverse = __fdiv_rn(127.0f, amax);
  const float scale = __fdiv_rn(amax, 127.0f);
  const bool fits = inverse <= 3.4e38f;
  return {finite ? (fits ? scale : 0.0f) : __uint_as_float(0x7fc00000u), fits ? inverse : 0.0f};
}
__device__ inline int8_t ToByte(float x, float inverse) {
  const float scaled = __fmul_rn(x, inverse);
  return static_cast<int8_t>(__float2int_rn(fminf(fmaxf(scaled, -127.0f), 127.0f)));
}
__device__ inline bool IsFinite(float x) { return fabsf(x) <= 3.40282347e38f; }

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
    case Element::kInt8:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
