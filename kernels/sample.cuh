// What the kernels that draw and score tokens share: a logit's adjustment, the noise, the order of
// candidates and the mass of a probability. The CPU's half is backend/cpu/sample.cc and
// shared_math.h, and a test holds one to the other.
// Owns nothing. Must not know how rows are walked.
// Threads: device code; functions named Warp* are called by all 32 lanes together.
#pragma once

#include "kernels/ptx.cuh"
#include "kernels/sample.h"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kWarpLanes = 32;
constexpr float kMaxFloat = 3.40282347e38f;

__device__ inline float NegativeInfinity() { return __uint_as_float(0xff800000u); }

/// Whether `a` is drawn before `b`: ties go to the lower id.
__device__ inline bool IsBetter(const ScanBest& a, const ScanBest& b) {
  if (a.id < 0 || b.id < 0) return a.id >= 0;
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

__device__ inline bool Holds(const int32_t* ids, int32_t n, int32_t id) {
  for (int32_t i = 0; i < n; ++i) {
    if (ids[i] == id) return true;
  }
  return false;
}

/// The logit after bias and penalties.
__device__ inline float Adjusted(const ScanRow& row, int32_t vocab, int32_t id, float x) {
  for (int32_t i = 0; i < row.num_bias; ++i) {
    if (row.bias_ids[i] == id) x = __fadd_rn(x, row.bias[i]);
  }
  if (row.counts == nullptr) return x;
  const int32_t in_prompt = row.counts[id];
  const int32_t in_output = row.counts[vocab + id];
  if (in_prompt == 0 && in_output == 0) return x;
  x = x > 0.0f ? __fdiv_rn(x, row.repetition_penalty) : __fmul_rn(x, row.repetition_penalty);
  x = __fsub_rn(x, __fmul_rn(row.frequency_penalty, static_cast<float>(in_output)));
  return in_output > 0 ? __fsub_rn(x, row.presence_penalty) : x;
}

/// Standard Gumbel noise of a random word: -log(-log(1 - u)), u its place in (0, 1).
__device__ inline float NoiseOf(uint32_t word) {
  const float middle = __fmul_rn(__fadd_rn(static_cast<float>(word), 0.5f), 0x1p-32f);
  const float u = fminf(middle, 1.0f - 0x1p-24f);
  const float rest = __fsub_rn(1.0f, u);
  const float lost = __fsub_rn(u, __fsub_rn(1.0f, rest));  // to the rounding of `rest`
  return __fsub_rn(0.0f, Log(__fsub_rn(lost, Log(rest))));
}

using Mass = unsigned long long;

/// e^(x - best), the share of a candidate, as an integer: sums of such do not depend on their order.
__device__ inline Mass MassOf(float x, float best) {
  const float below = __fsub_rn(x, best);
  return below < 0.0f ? static_cast<Mass>(__fmul_rn(Exp(below), 0x1p44f)) : Mass{1} << 44;
}

/// An integer in the order of finite and infinite floats; -0 is 0.
__device__ inline uint32_t OrderOf(float x) {
  const uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float ValueOf(uint32_t order) {
  return __uint_as_float(order >> 31 != 0 ? order & 0x7fffffffu : ~order);
}

__device__ inline ScanBest WarpBest(ScanBest best) {
  for (int bit = kWarpLanes / 2; bit > 0; bit /= 2) {
    const ScanBest other{__shfl_xor_sync(0xffffffff, best.score, bit),
                         __shfl_xor_sync(0xffffffff, best.id, bit)};
    if (IsBetter(other, best)) best = other;
  }
  return best;
}

/// A candidate under each set of rules that lets it pass: all, all but bans, masks alone.
__device__ inline void Offer(const ScanRow& row, const ScanBest& one,
                             ScanBest (&best)[kScanRules]) {
  if (IsBetter(one, best[2])) best[2] = one;
  if (row.num_allowed > 0 && !Holds(row.allowed, row.num_allowed, one.id)) return;
  if (IsBetter(one, best[1])) best[1] = one;
  if (Holds(row.banned, row.num_banned, one.id)) return;
  if (IsBetter(one, best[0])) best[0] = one;
}

/// The best of a block's threads under each set of rules, to `to`. Called by all threads of a block of
/// kWarps warps; `warps` is shared memory for kWarps * kScanRules of them.
template <int kWarps>
__device__ void StoreBest(const ScanBest (&best)[kScanRules], ScanBest* warps, ScanBest* to) {
  const int warp = threadIdx.x / kWarpLanes;
  for (int rule = 0; rule < kScanRules; ++rule) {
    const ScanBest of_warp = WarpBest(best[rule]);
    if (threadIdx.x % kWarpLanes == 0) warps[warp * kScanRules + rule] = of_warp;
  }
  __syncthreads();
  if (threadIdx.x >= kScanRules) return;
  ScanBest of_block = warps[threadIdx.x];
  for (int w = 1; w < kWarps; ++w) {
    const ScanBest other = warps[w * kScanRules + threadIdx.x];
    if (IsBetter(other, of_block)) of_block = other;
  }
  to[threadIdx.x] = of_block;
}

}  // namespace penstock::PENSTOCK_KERNELS
