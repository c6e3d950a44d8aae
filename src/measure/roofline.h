// What this machine can do, measured in the same run as what is compared with it.
// Owns nothing. Must not know kernels.
// Threads: uses the pool's.
#pragma once

#include "base/worker_pool.h"

namespace penstock {

struct Roofline {
  double float_gflops = 0;  // fused multiply-adds of 8 floats, 2 operations each, on all threads
  double word_gops = 0;     // products of 16-bit words, summed in pairs into 32 bits, likewise
  double memory_gbs = 0;    // reading on all threads, a linear stream each, in 2 MiB pages
};

/// The best of several runs of each; takes about a second.
Roofline MeasureRoofline(WorkerPool& pool);

}  // namespace penstock
