// Every PTX instruction that kernels use, but for system_memory.cuh's: on the device as assembly,
// under the emulator as a meeting of lanes. What they need from the language comes in with this file.
// Owns nothing. Must not know kernels.
// Threads: device code; functions named Warp* are called by all 32 lanes together.
#pragma once

#include <cstdint>

#include "kernels/namespace.h"

#if defined(PENSTOCK_EMULATE)
#include "kernels/emulator/cuda_shim.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

/// An array in shared memory, aligned to 16 bytes.
#define SHARED_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
#endif

namespace penstock::PENSTOCK_KERNELS {

#if defined(PENSTOCK_EMULATE)

inline void PdlTrigger() {}
inline void PdlWait() { emulator::WaitForKernelsBefore(); }

template <int kBytes>
void CpAsync(void* shared, const void* global, Where where = Where::current()) {
  emulator::CopyAsync(shared, global, kBytes, kBytes, where);
}
inline void CpAsync16(void* shared, const void* global, int valid, Where where = Where::current()) {
  emulator::CopyAsync(shared, global, 16, static_cast<size_t>(valid), where);
}
inline void CpAsyncCommit() { emulator::CommitCopies(); }
template <int kGroups>
void CpAsyncWait() {
  emulator::WaitForCopies(kGroups);
}

template <class T>
T LoadOfOthers(const T* p) {
  return *p;
}

template <int kCount>
void WarpLoadMatrices(uint32_t (&registers)[kCount], const void* row,
                      Where where = Where::current()) {
  emulator::LoadMatrices(registers, row, kCount, false, where);
}
template <int kCount>
void WarpLoadTransposed(uint32_t (&registers)[kCount], const void* row,
                        Where where = Where::current()) {
  emulator::LoadMatrices(registers, row, kCount, true, where);
}
inline void WarpMma(__nv_bfloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                    Where where = Where::current()) {
  emulator::Mma16816(emulator::MmaType::kBFloat16, d, a, b, where);
}
inline void WarpMma(__half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                    Where where = Where::current()) {
  emulator::Mma16816(emulator::MmaType::kFloat16, d, a, b, where);
}
inline void WarpMma(int8_t, int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                    Where where = Where::current()) {
  emulator::Mma16832(d, a, b, where);
}

/// Two elements less two others, or times them, each rounded once.
template <class Fn>
uint32_t ForHalves(__nv_bfloat16, uint32_t a, uint32_t b, Fn fn) {
  const auto half = [&](int shift) -> uint32_t {
    return FloatToBf16(fn(Bf16ToFloat(static_cast<uint16_t>(a >> shift)),
                          Bf16ToFloat(static_cast<uint16_t>(b >> shift))));
  };
  return half(0) | half(16) << 16;
}
template <class Fn>
uint32_t ForHalves(__half, uint32_t a, uint32_t b, Fn fn) {
  const auto half = [&](int shift) -> uint32_t {
    return FloatToFp16(fn(Fp16ToFloat(static_cast<uint16_t>(a >> shift)),
                          Fp16ToFloat(static_cast<uint16_t>(b >> shift))));
  };
  return half(0) | half(16) << 16;
}
template <class T>
uint32_t SubtractPair(T, uint32_t a, uint32_t b) {
  return ForHalves(T(), a, b, [](float x, float y) { return x - y; });
}
template <class T>
uint32_t MultiplyPair(T, uint32_t a, uint32_t b) {
  return ForHalves(T(), a, b, [](float x, float y) { return x * y; });
}

inline uint32_t PackPair(__nv_bfloat16, float low, float high) {
  return FloatToBf16(low) | static_cast<uint32_t>(FloatToBf16(high)) << 16;
}
inline uint32_t PackPair(__half, float low, float high) {
  return FloatToFp16(low) | static_cast<uint32_t>(FloatToFp16(high)) << 16;
}
inline float FastExp2(float x) {
  const float y = std::exp2(x);
  return y < 1.17549435e-38f ? 0.0f : y;
}

inline int Recomputed(int v) { return v; }

inline void BarrierSync(int id, int threads, Where where = Where::current()) {
  emulator::Barrier(id, threads, false, where);
}
inline void BarrierArrive(int id, int threads, Where where = Where::current()) {
  emulator::ArriveAtBarrier(id, threads, where);
}

#else

/// Dynamic shared memory, LaunchShape::shared_bytes of it.
__device__ inline void* DynamicShared() {
  extern __shared__ __align__(128) unsigned char penstock_dynamic_shared[];
  return penstock_dynamic_shared;
}
__device__ inline unsigned SharedAddress(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// The next kernel may begin; says nothing of memory.
__device__ inline void PdlTrigger() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// What the kernels before wrote is visible from here on; nothing else is touched before.
__device__ inline void PdlWait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Both addresses are multiples of kBytes: 4, 8 or 16.
template <int kBytes>
__device__ inline void CpAsync(void* shared, const void* global) {
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(shared)),
                 "l"(global)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(SharedAddress(shared)),
                 "l"(global), "n"(kBytes)
                 : "memory");
  }
}
/// 16 bytes, of which those from `valid` on are zero and not read.
__device__ inline void CpAsync16(void* shared, const void* global, int valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)),
               "l"(global), "r"(valid)
               : "memory");
}
__device__ inline void CpAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until at most kGroups of this thread's groups are in flight.
template <int kGroups>
__device__ inline void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

/// What another block wrote while this kernel ran: not from the multiprocessor's own cache.
template <class T>
__device__ inline T LoadOfOthers(const T* p) {
  return __ldcg(p);
}

/// kCount (1, 2, 4) 8x8 matrices of 16-bit elements: lane 8 i + r brings the address of row r of
/// matrix i; lane l gets elements (l / 4, 2 (l % 4) + (0, 1)) of each.
template <int kCount>
__device__ inline void WarpLoadMatrices(uint32_t (&r)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  if constexpr (kCount == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
}
/// The same of the transposes: lane l gets elements (2 (l % 4) + (0, 1), l / 4).
template <int kCount>
__device__ inline void WarpLoadTransposed(uint32_t (&r)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  if constexpr (kCount == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
}

/// d += a b, a [16, 16], b [16, 8]: with g = lane / 4 and t = lane % 4, registers of two elements.
/// a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8); b: (2t, g), (2t + 8, g); d: (g, 2t),
/// (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). The first argument names the type.
__device__ inline void WarpMma(__nv_bfloat16, float (&d)[4], const uint32_t (&a)[4],
                               const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void WarpMma(__half, float (&d)[4], const uint32_t (&a)[4],
                               const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// d += a b, a [16, 32], b [32, 8], registers of four elements: a: (g, 4t), (g + 8, 4t),
/// (g, 4t + 16), (g + 8, 4t + 16); b: (4t, g), (4t + 16, g); d as above.
__device__ inline void WarpMma(int8_t, int32_t (&d)[4], const uint32_t (&a)[4],
                               const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Two elements less two others, or times them, each rounded once.
__device__ inline uint32_t SubtractPair(__nv_bfloat16, uint32_t a, uint32_t b) {
  uint32_t d;
  asm("{.reg .b32 one; mov.b32 one, 0xbf80bf80; fma.rn.bf16x2 %0, %2, one, %1;}"
      : "=r"(d)
      : "r"(a), "r"(b));
  return d;
}
__device__ inline uint32_t SubtractPair(__half, uint32_t a, uint32_t b) {
  uint32_t d;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

__device__ inline uint32_t MultiplyPair(__nv_bfloat16, uint32_t a, uint32_t b) {
  uint32_t d;
  asm("{.reg .b32 zero; mov.b32 zero, 0x80008000; fma.rn.bf16x2 %0, %1, %2, zero;}"
      : "=r"(d)
      : "r"(a), "r"(b));
  return d;
}
__device__ inline uint32_t MultiplyPair(__half, uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

/// Two numbers, each rounded to nearest even, as one register. The first argument names the type.
__device__ inline uint32_t PackPair(__nv_bfloat16, float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ inline uint32_t PackPair(__half, float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
/// 2^x to 2^-22; exactly 1 for 0 and 0 for -infinity, subnormal results are 0.
__device__ inline float FastExp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// v, of which the compiler keeps nothing derived in registers over a loop.
__device__ inline int Recomputed(int v) {
  asm volatile("" : "+r"(v));
  return v;
}

/// Barrier `id` (1 to 15) of `threads` threads, whole warps; those that arrive do not wait.
__device__ inline void BarrierSync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void BarrierArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

#endif

}  // namespace penstock::PENSTOCK_KERNELS
