// What a kernel shares with other devices and the host while all of them run: flags, words, a clock.
// On the device assembly, under the emulator what orders the threads of a block.
// Owns nothing. Must not know kernels.
// Threads: device code; each thread by itself.
#pragma once

#include <cstdint>

#include "kernels/ptx.cuh"

namespace penstock::PENSTOCK_KERNELS {

#if defined(PENSTOCK_EMULATE)

inline void ReleaseFlag(uint32_t* flag, uint32_t value, Where where = Where::current()) {
  emulator::Release(flag, value, where);
}
inline uint32_t AcquireFlag(const uint32_t* flag, Where where = Where::current()) {
  return emulator::Acquire(flag, where);
}
inline uint32_t LoadSystemWord(const uint32_t* word, Where where = Where::current()) {
  uint32_t value;
  emulator::AtomicLoad(word, &value, sizeof value, where);
  return value;
}
inline void StoreSystemWord(uint32_t* word, uint32_t value, Where where = Where::current()) {
  atomicExch(word, value, where);
}
inline uint64_t Nanoseconds() { return emulator::Nanoseconds(); }

#else

/// What this thread wrote, or threads that it has met at a barrier, is there for whoever acquires
/// the flag, on any device.
__device__ inline void ReleaseFlag(uint32_t* flag, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
__device__ inline uint32_t AcquireFlag(const uint32_t* flag) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}
/// A word that the host and all devices read and write; says nothing of other memory.
__device__ inline uint32_t LoadSystemWord(const uint32_t* word) {
  uint32_t value;
  asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}
__device__ inline void StoreSystemWord(uint32_t* word, uint32_t value) {
  asm volatile("st.relaxed.sys.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}
/// Of a clock that only goes on.
__device__ inline uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

#endif

}  // namespace penstock::PENSTOCK_KERNELS
