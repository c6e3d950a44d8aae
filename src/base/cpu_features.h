// What the processor can do beyond the x86-64-v3 that everything is compiled for.
// Owns nothing. Must not know the domain.
// Threads: thread-safe.
#pragma once

#include <cpuid.h>

namespace penstock {

/// F, BW, DQ, VL and CD, enabled by the operating system: what -march=x86-64-v4 may use.
inline bool CpuHasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}
inline bool CpuHasAvx512Vnni() { return CpuHasAvx512() && __builtin_cpu_supports("avx512vnni"); }
/// Products of bfloat16, beside those of bytes.
inline bool CpuHasAvx512Bf16() {
  return CpuHasAvx512Vnni() && __builtin_cpu_supports("avx512bf16");
}

/// The products of bytes of AVX-512 VNNI, in 256 bits and encoded as AVX2 is.
inline bool CpuHasAvxVnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax >> 4 & 1) != 0;
}

}  // namespace penstock
