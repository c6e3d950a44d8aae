#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/philox.h"
#include "kernels/sample.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kThreads = 256;

/// One part of one row: four neighbouring ids a thread at a time, which share a block of noise.
__global__ void __launch_bounds__(kThreads) ScanKernel(ScanArgs a) {
  PdlTrigger();
  PdlWait();
  SHARED_ARRAY(ScanBest, warps, kScanRules * kThreads / kWarpLanes);
  const ScanRow row = a.rows[blockIdx.y];
  const float* logits = a.logits + row.row * a.stride;
  const bool greedy = row.temperature <= 0.0f;
  // The most likely of a row that no rule touches may be infinite.
  const bool plain = greedy && row.counts == nullptr && row.mask == nullptr && row.num_bias == 0 &&
                     row.num_banned == 0 && row.num_allowed == 0;
  const float most = plain ? -NegativeInfinity() : kMaxFloat;
  ScanBest best[kScanRules];
  for (ScanBest& b : best) b = {NegativeInfinity(), -1};
  const int32_t begin = blockIdx.x * kScanPart;
  const int32_t end = min(begin + kScanPart, a.vocab);
  for (int32_t first = begin + 4 * threadIdx.x; first < end; first += 4 * kThreads) {
    PhiloxWords noise{};
    if (!greedy) noise = Philox(first / 4, row.position, row.seed);
    for (int j = 0; j < 4; ++j) {
      const int32_t id = first + j;
      if (id >= end) break;
      float x = logits[id];
      if (!(x == x)) continue;
      x = Adjusted(row, a.vocab, id, fminf(x, most));
      if (x == NegativeInfinity()) continue;
      if (row.mask != nullptr && (row.mask[id / 32] >> id % 32 & 1) == 0) continue;
      if (!greedy) x = __fadd_rn(__fdiv_rn(x, row.temperature), NoiseOf(noise.words[j]));
      const ScanBest one{x, id};
      Offer(row, one, best);
    }
  }
  const int64_t part = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  StoreBest<kThreads / kWarpLanes>(best, warps, a.partial + part * kScanRules);
}

/// The parts of a row, by one warp.
__global__ void __launch_bounds__(kWarpLanes) ScanMergeKernel(ScanArgs a, int32_t num_parts) {
  PdlTrigger();
  PdlWait();
  const ScanBest* partial = a.partial + int64_t{blockIdx.x} * num_parts * kScanRules;
  int32_t token = -1;
  for (int rule = 0; rule < kScanRules; ++rule) {
    ScanBest best{NegativeInfinity(), -1};
    for (int32_t i = threadIdx.x; i < num_parts; i += kWarpLanes) {
      const ScanBest other = partial[i * kScanRules + rule];
      if (IsBetter(other, best)) best = other;
    }
    best = WarpBest(best);
    if (token < 0) token = best.id;
  }
  if (threadIdx.x == 0) a.tokens[blockIdx.x] = token;
}

}  // namespace

cudaError_t LaunchScan(const ScanArgs& a, cudaStream_t stream) {
  if (a.num_rows == 0) return cudaSuccess;
  const int32_t num_parts = (a.vocab + kScanPart - 1) / kScanPart;
  const cudaError_t error =
      Launch({"scan", dim3(num_parts, a.num_rows), dim3(kThreads), 0, stream}, ScanKernel, a);
  if (error != cudaSuccess) return error;
  return Launch({"scan_merge", dim3(a.num_rows), dim3(kWarpLanes), 0, stream}, ScanMergeKernel, a,
                num_parts);
}

}  // namespace penstock::PENSTOCK_KERNELS
