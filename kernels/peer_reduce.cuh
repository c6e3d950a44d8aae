// A sum over ranks as the threads of one rank's block compute it.
// Owns nothing. Must not know how many ranks share a device.
// Threads: device code; all threads of a ReduceGroup together.
#pragma once

#include "kernels/peer_reduce.h"
#include "kernels/system_memory.cuh"

namespace penstock::PENSTOCK_KERNELS {

/// The threads that are one rank's block: all of a block, or some warps of it.
struct ReduceGroup {
  int block = 0;
  int blocks = 1;
  int thread = 0;
  int threads = kReduceThreads;
  int barrier = 1;  // that is theirs
};

__device__ inline float4 LoadQuad(const float* x, int64_t quad) {
  return *reinterpret_cast<const float4*>(x + 4 * quad);
}
__device__ inline void StoreQuad(float* x, int64_t quad, const float4& v) {
  *reinterpret_cast<float4*>(x + 4 * quad) = v;
}
/// Rows may end within a quad.
__device__ inline void StoreRows(const PeerReduceArgs& a, int64_t quad, const float4& v) {
  const int64_t left = a.count - 4 * quad;
  if (left >= 4) return StoreQuad(a.rows, quad, v);
  float* to = a.rows + 4 * quad;
  to[0] = v.x;
  if (left > 1) to[1] = v.y;
  if (left > 2) to[2] = v.z;
}
__device__ inline float4 LoadRows(const PeerReduceArgs& a, int64_t quad) {
  const int64_t left = a.count - 4 * quad;
  if (left >= 4) return LoadQuad(a.rows, quad);
  const float* from = a.rows + 4 * quad;
  return make_float4(from[0], left > 1 ? from[1] : 0.0f, left > 2 ? from[2] : 0.0f, 0.0f);
}

/// fn(part, quad of the part, quad of the rows) of all that is this block's of parts [begin, end).
/// Blocks of one number have the same quads on all ranks, so only they have to wait for each other.
template <class Fn>
__device__ inline void ForQuads(const PeerReduceArgs& a, const ReduceGroup& g, int begin, int end,
                                const Fn& fn) {
  const int64_t quads = (a.count + 3) / 4;
  const int64_t part_quads = a.two_shot ? ReducePart(a.count, a.size) : quads;
  for (int part = begin; part < end; ++part) {
    for (int64_t i = int64_t{g.block} * g.threads + g.thread; i < part_quads;
         i += int64_t{g.blocks} * g.threads) {
      const int64_t quad = part * part_quads + i;
      if (quad < quads) fn(part, i, quad);
    }
  }
}

/// Whether it came; where it did not, nobody waits any longer.
__device__ inline bool AwaitRank(const PeerReduceArgs& a, const uint32_t* flag, int rank) {
  constexpr uint32_t kSpinsToLook = 256;  // at the host's memory, which is far away
  uint64_t begin = 0;
  for (uint32_t spins = 1; static_cast<int32_t>(AcquireFlag(flag) - a.step) < 0; ++spins) {
    if (spins % kSpinsToLook != 0) continue;
    if (LoadSystemWord(a.abort) != 0) return false;
    const uint64_t now = Nanoseconds();
    if (begin == 0) begin = now;
    if (now - begin > static_cast<uint64_t>(a.patience)) {
      StoreSystemWord(a.abort, static_cast<uint32_t>(rank) + 1);
      return false;
    }
  }
  return true;
}

/// What this block of each rank wrote before, this block of all ranks sees after it. False: a rank
/// did not come.
__device__ inline bool MeetRanks(const PeerReduceArgs& a, const ReduceGroup& g, int stage) {
  SHARED_ARRAY(int32_t, missing_ranks, 2 * kMostRanks);
  int32_t* missing = missing_ranks + stage * kMostRanks + a.rank;
  if (g.thread == 0) *missing = 0;
  BarrierSync(g.barrier, g.threads);
  if (g.thread < a.size) {
    const int at = (stage * kReduceBlocks + g.block) * kMostRanks;
    ReleaseFlag(a.flags[g.thread] + at + a.rank, a.step);
    if (!AwaitRank(a, a.flags[a.rank] + at + g.thread, g.thread)) atomicExch(missing, 1);
  }
  BarrierSync(g.barrier, g.threads);
  return *missing == 0;
}

template <ReduceForm kForm>
__device__ void ReduceRank(const PeerReduceArgs& a, const ReduceGroup& g) {
  constexpr bool kWaits = kForm == ReduceForm::kWaiting;
  const int parts = a.two_shot ? a.size : 1;
  if constexpr (kWaits) {
    ForQuads(a, g, 0, parts, [&](int, int64_t, int64_t quad) {
      StoreQuad(a.inputs[a.rank], quad, LoadRows(a, quad));
    });
    if (!MeetRanks(a, g, 0)) return;
  }
  if constexpr (kForm != ReduceForm::kGather) {
    const int own = a.two_shot ? a.rank : 0;
    ForQuads(a, g, own, own + 1, [&](int, int64_t i, int64_t quad) {
      float4 sum = LoadQuad(a.inputs[0], quad);
      for (int r = 1; r < a.size; ++r) {
        const float4 x = LoadQuad(a.inputs[r], quad);
        sum = make_float4(__fadd_rn(sum.x, x.x), __fadd_rn(sum.y, x.y), __fadd_rn(sum.z, x.z),
                          __fadd_rn(sum.w, x.w));
      }
      if (a.two_shot) return StoreQuad(a.sums[a.rank], i, sum);
      StoreRows(a, quad, sum);
    });
  }
  if (!a.two_shot || kForm == ReduceForm::kSum) return;
  if constexpr (kWaits) {
    if (!MeetRanks(a, g, 1)) return;
  }
  ForQuads(a, g, 0, parts, [&](int part, int64_t i, int64_t quad) {
    StoreRows(a, quad, LoadQuad(a.sums[part], i));
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
