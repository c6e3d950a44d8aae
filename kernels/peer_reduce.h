// The sum of what several ranks have, on each of them, through memory that all their devices reach.
// Each element is added in the order of the ranks, by one expression, so all get the same bits.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know classes of the server.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kMostRanks = 8;
constexpr int32_t kReduceThreads = 512;
constexpr int32_t kReduceBlocks = 36;
/// Flags that each rank has for the others, zeros before the first sum.
constexpr size_t kReduceFlags = size_t{2} * kReduceBlocks * kMostRanks;

/// kWaiting is the whole sum in one kernel of each rank, which waits for the others': all of them
/// must be able to run at once. kSum and kGather wait for nothing: what they read of other ranks was
/// written before they begin.
enum class ReduceForm : uint8_t { kWaiting, kSum, kGather };

/// One rank's part of a sum. inputs and sums have room for whole quads of floats, and are other
/// memory in the sum that follows.
struct PeerReduceArgs {
  float* rows = nullptr;  // [count], of this rank, at a multiple of 16 bytes; becomes the sum
  int64_t count = 0;
  float* inputs[kMostRanks] = {};    // [count] of each rank: its rows; kWaiting writes its own
  float* sums[kMostRanks] = {};      // [4 ReducePart] of each rank: its part; of two_shot alone
  uint32_t* flags[kMostRanks] = {};  // kWaiting: [kReduceFlags] of each rank
  uint32_t* abort = nullptr;  // kWaiting: not 0: whoever waits leaves. A rank that was waited
                              // for in vain is written there, plus 1
  int64_t patience = 0;       // nanoseconds that one is waited for
  uint32_t step = 0;          // of these ranks' sums: 1, 2, ...
  int32_t rank = 0;
  int32_t size = 0;
  bool two_shot = false;  // each rank adds up a part, which kGather fetches; else each adds up all
  ReduceForm form = ReduceForm::kSum;
};

/// Quads of floats that are a rank's to add up in two shots.
PENSTOCK_EVERYWHERE constexpr int64_t ReducePart(int64_t count, int32_t size) {
  return ((count + 3) / 4 + size - 1) / size;
}

}  // namespace penstock::PENSTOCK_KERNELS
