// CUDA's device language for g++: qualifiers, indices, vector and 16-bit types, rounded arithmetic,
// barriers, shuffles, votes and atomics, under their names in the namespace of the emulated kernels.
// Owns nothing. Must not know kernels.
// Threads: called by the threads of a kernel.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "base/half.h"
#include "kernels/emulator/emulator.h"
#include "kernels/emulator/runtime_shim.h"
#include "kernels/emulator/warp_ops.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

/// An array in shared memory, aligned to 16 bytes.
#define SHARED_ARRAY(type, name, count) \
  type* const name =                    \
      static_cast<type*>(::penstock::emulator::SharedArray(#name, sizeof(type) * (count)))

namespace penstock::PENSTOCK_KERNELS {

using emulator::Where;

#define threadIdx (::penstock::emulator::thread_index)
#define blockIdx (::penstock::emulator::block_index)
#define blockDim (::penstock::emulator::block_shape)
#define gridDim (::penstock::emulator::grid_shape)

inline void* DynamicShared() { return emulator::DynamicShared(); }

// Vectors are loaded and stored whole, as on the GPU, so that their alignment is checked.
#define PENSTOCK_VECTOR4(Name, Element)                                      \
  struct alignas(4 * sizeof(Element)) Name {                                 \
    typedef Element Whole __attribute__((vector_size(4 * sizeof(Element)))); \
    union {                                                                  \
      struct {                                                               \
        Element x, y, z, w;                                                  \
      };                                                                     \
      Whole whole;                                                           \
    };                                                                       \
    Name() {}                                                                \
    Name(Element x, Element y, Element z, Element w) : whole{x, y, z, w} {}  \
    Name(const Name& o) : whole(o.whole) {}                                  \
    Name& operator=(const Name& o) {                                         \
      whole = o.whole;                                                       \
      return *this;                                                          \
    }                                                                        \
  };                                                                         \
  inline Name make_##Name(Element x, Element y, Element z, Element w) { return {x, y, z, w}; }
#define PENSTOCK_VECTOR2(Name, Element)                                      \
  struct alignas(2 * sizeof(Element)) Name {                                 \
    typedef Element Whole __attribute__((vector_size(2 * sizeof(Element)))); \
    union {                                                                  \
      struct {                                                               \
        Element x, y;                                                        \
      };                                                                     \
      Whole whole;                                                           \
    };                                                                       \
    Name() {}                                                                \
    Name(Element x, Element y) : whole{x, y} {}                              \
    Name(const Name& o) : whole(o.whole) {}                                  \
    Name& operator=(const Name& o) {                                         \
      whole = o.whole;                                                       \
      return *this;                                                          \
    }                                                                        \
  };                                                                         \
  inline Name make_##Name(Element x, Element y) { return {x, y}; }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
PENSTOCK_VECTOR4(uint4, uint32_t)
PENSTOCK_VECTOR4(int4, int32_t)
PENSTOCK_VECTOR4(float4, float)
PENSTOCK_VECTOR4(char4, int8_t)
PENSTOCK_VECTOR2(uint2, uint32_t)
PENSTOCK_VECTOR2(int2, int32_t)
PENSTOCK_VECTOR2(float2, float)
#pragma GCC diagnostic pop
#undef PENSTOCK_VECTOR4
#undef PENSTOCK_VECTOR2

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __half {
  uint16_t bits;
};
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline unsigned short __half_as_ushort(__half v) { return v.bits; }
inline float __bfloat162float(__nv_bfloat16 v) { return Bf16ToFloat(v.bits); }
inline float __half2float(__half v) { return Fp16ToFloat(v.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return {FloatToBf16(v)}; }
inline __half __float2half_rn(float v) { return {FloatToFp16(v)}; }

// One rounding each: the target is compiled with -ffp-contract=off.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float fmaxf(float a, float b) { return std::fmax(a, b); }
inline float fminf(float a, float b) { return std::fmin(a, b); }
inline float fabsf(float a) { return std::fabs(a); }
inline float expf(float a) { return std::exp(a); }
inline float exp2f(float a) { return std::exp2(a); }
inline float log2f(float a) { return std::log2(a); }
inline float logf(float a) { return std::log(a); }
inline float log1pf(float a) { return std::log1p(a); }
inline float erff(float a) { return std::erf(a); }
inline float tanhf(float a) { return std::tanh(a); }
inline float rintf(float a) { return __builtin_rintf(a); }
/// To nearest, ties to even; saturates, and NaN gives 0.
inline int __float2int_rn(float a) {
  if (std::isnan(a)) return 0;
  if (a >= 2147483648.0f) return INT32_MAX;
  return a < -2147483648.0f ? INT32_MIN : static_cast<int>(__builtin_rintf(a));
}
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}
/// Byte i is byte `selector >> 4 i & 7` of the eight of a (0 to 3) and b.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t both = uint64_t{b} << 32 | a;
  unsigned out = 0;
  for (int i = 0; i < 4; ++i) {
    out |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  }
  return out;
}
inline int __popc(unsigned a) { return std::popcount(a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __clz(int a) { return std::countl_zero(static_cast<unsigned>(a)); }
template <class T>
T __ldg(const T* p) {
  return *p;
}
using std::max;
using std::min;

inline void __syncthreads(Where where = Where::current()) { emulator::Barrier(0, 0, true, where); }
inline void __syncwarp(unsigned mask = 0xffffffff, Where where = Where::current()) {
  emulator::Meet(
      "__syncwarp", mask & emulator::FullMask(), nullptr, nullptr, [](emulator::Lanes&) {}, true,
      where);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T ShuffleFrom(const char* what, unsigned mask, T v, int from, Where where) {
  T out{};
  emulator::Shuffle(what, mask, &v, &out, sizeof(T), from, where);
  return out;
}

template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32, Where where = Where::current()) {
  const int lane = emulator::Lane();
  return ShuffleFrom("__shfl_sync", mask, v, lane / width * width + (from & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, Where where = Where::current()) {
  const int lane = emulator::Lane();
  const int from = lane ^ bits;
  // Into a later segment nothing is read; an earlier one may be.
  return ShuffleFrom("__shfl_xor_sync", mask, v, from / width > lane / width ? lane : from, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, int by, int width = 32, Where where = Where::current()) {
  const int lane = emulator::Lane();
  return ShuffleFrom("__shfl_down_sync", mask, v, lane % width + by < width ? lane + by : lane,
                     where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int by, int width = 32, Where where = Where::current()) {
  const int lane = emulator::Lane();
  return ShuffleFrom("__shfl_up_sync", mask, v, lane % width - by >= 0 ? lane - by : lane, where);
}
inline unsigned __ballot_sync(unsigned mask, bool value, Where where = Where::current()) {
  return emulator::Ballot("__ballot_sync", mask, value, where);
}
inline bool __any_sync(unsigned mask, bool value, Where where = Where::current()) {
  return emulator::Ballot("__any_sync", mask, value, where) != 0;
}
inline bool __all_sync(unsigned mask, bool value, Where where = Where::current()) {
  return emulator::Ballot("__all_sync", mask, !value, where) == 0;
}

/// *to = change(*to), in one; what it was before.
template <class T, class Change>
T AtomicUpdate(T* to, Where where, Change change) {
  T before;
  emulator::AtomicLoad(to, &before, sizeof(T), where);
  const T after = change(before);
  emulator::AtomicStore(to, &after, sizeof(T));
  return before;
}
template <class T>
T atomicAdd(T* to, std::type_identity_t<T> value, Where where = Where::current()) {
  return AtomicUpdate(to, where, [value](T before) -> T { return before + value; });
}
template <class T>
T atomicMax(T* to, std::type_identity_t<T> value, Where where = Where::current()) {
  return AtomicUpdate(to, where, [value](T before) { return std::max(before, value); });
}
template <class T>
T atomicExch(T* to, std::type_identity_t<T> value, Where where = Where::current()) {
  return AtomicUpdate(to, where, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* to, std::type_identity_t<T> expected, std::type_identity_t<T> value,
            Where where = Where::current()) {
  return AtomicUpdate(to, where, [=](T before) { return before == expected ? value : before; });
}

}  // namespace penstock::PENSTOCK_KERNELS
