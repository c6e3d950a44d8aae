// What the processor can do beyond the x86-64-v3 that everything is compiled for.
// Owns nothing. Must not know the domain.
// Threads: thread-safe.
#pragma once

namespace penstock {

/// F, BW, DQ, VL and CD, enabled by the operating system: what -march=x86-64-v4 may use.
inline bool CpuHasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}

}  // namespace penstock
