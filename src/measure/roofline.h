// What this machine can do, measured in the same run as what is compared with it.
// Owns nothing. Must not know kernels.
// Threads: uses the pool's.
#pragma once

#include <cstdint>

#include "base/worker_pool.h"

namespace penstock {

/// What a kernel multiplies.
enum class Arithmetic : uint8_t { kFloat, kBFloat16, kWords, kBytes };
/// float, bf16, word or byte: with _gops, the limit's name in results.
const char* ArithmeticName(Arithmetic arithmetic);

/// Limits of the widest vectors that the processor has, on all threads; products and sums are 2
/// operations.
struct Roofline {
  double float_gops = 0;  // fused multiply-adds of float32
  double bf16_gops = 0;   // bfloat16, summed in pairs into float32; 0: the processor has none
  double word_gops = 0;   // 16-bit words, summed in pairs into 32 bits
  double byte_gops = 0;   // bytes, summed by four into 32 bits, or without VNNI in pairs into 16
  double memory_gbs = 0;  // reading one to four streams per thread, in 2 MiB pages

  double Of(Arithmetic arithmetic) const;
};

/// The best of many short runs of each; takes some seconds.
Roofline MeasureRoofline(WorkerPool& pool);

}  // namespace penstock
