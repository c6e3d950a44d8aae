// Finds where the most likely candidates of a row end, by pivots on their number or their mass: exact
// and without a sort. A candidate's place, (how far its value lies below the best, its id) as one
// integer, is its own; each round counts an interval of places in bins and goes on with the bin in
// which the end lies, until one candidate is in it. The first interval is fine where the likely ones
// are, so that few threads meet at a bin.
// Owns nothing; one block works on a row, its tables lie in shared memory. Must not know requests.
// Threads: device code; all functions are called by the whole block together.
#pragma once

#include "kernels/sample.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kSelectThreads = 1024;
constexpr int kSelectWarps = kSelectThreads / kWarpLanes;
constexpr int kBins = 2048;
constexpr int kBinsOfThread = kBins / kSelectThreads;
constexpr int kListed = 2048;     // candidates that go on in shared memory
constexpr float kLikely = 16.0f;  // the first interval: down to e^-16 of the best
constexpr int32_t kNotListed = -1;

using Place = unsigned long long;

struct SelectTables {
  Mass* weights;    // [kBins]
  int32_t* counts;  // [kBins]
  Place* list;      // [kListed]
  Mass* warps;      // [2 * kSelectWarps]
  struct Found {
    Mass total;
    Mass before;  // the weight of what lies before the bin
    int32_t bin;
    int32_t count;  // of candidates in it
    int32_t listed;
  } * found;  // [1]
};
#define SELECT_TABLES(tables)                                              \
  SHARED_ARRAY(Mass, select_weights, kBins);                               \
  SHARED_ARRAY(int32_t, select_counts, kBins);                             \
  SHARED_ARRAY(Place, select_list, kListed);                               \
  SHARED_ARRAY(Mass, select_warps, 2 * kSelectWarps);                      \
  SHARED_ARRAY(SelectTables::Found, select_found, 1);                      \
  const SelectTables tables {                                              \
    select_weights, select_counts, select_list, select_warps, select_found \
  }

/// What is chosen from: the row, or a list of places.
struct Candidates {
  const float* values = nullptr;  // [size]; NaN: none
  int32_t size = 0;
  bool raw = false;    // logits: NaN counts as -inf, and infinity as the largest number
  float limit = 0.0f;  // what is below is none
  uint32_t order = 0;  // of the best
  float best = 0.0f;
  Place last = ~Place{0};
  const Place* list = nullptr;
  int32_t listed = kNotListed;
};

__device__ inline float Countable(float x) {
  return x == x ? fminf(x, kMaxFloat) : NegativeInfinity();
}
__device__ inline int32_t IdAt(Place place) { return static_cast<int32_t>(place & 0xffffffffu); }
__device__ inline float ValueAt(const Candidates& c, Place place) {
  return ValueOf(c.order - static_cast<uint32_t>(place >> 32));
}

/// fn(place, value) of each candidate, on some thread.
template <class Fn>
__device__ void ForCandidates(const Candidates& c, const Fn& fn) {
  if (c.listed != kNotListed) {
    for (int32_t i = threadIdx.x; i < c.listed; i += kSelectThreads) {
      if (c.list[i] <= c.last) fn(c.list[i], ValueAt(c, c.list[i]));
    }
    return;
  }
  for (int32_t id = threadIdx.x; id < c.size; id += kSelectThreads) {
    const float x = c.raw ? Countable(c.values[id]) : c.values[id];
    if (!(x >= c.limit)) continue;
    const Place place = Place{c.order - OrderOf(x)} << 32 | static_cast<uint32_t>(id);
    if (place <= c.last) fn(place, x);
  }
}

__device__ inline Mass WarpSum(Mass sum) {
  for (int bit = kWarpLanes / 2; bit > 0; bit /= 2) sum += __shfl_xor_sync(0xffffffff, sum, bit);
  return sum;
}

static_assert(kSelectWarps == kWarpLanes, "the first warp has a lane for each of them");

/// Of all threads; `sums` [kSelectWarps] may be used again after a barrier.
__device__ inline Mass BlockSum(Mass sum, Mass* sums) {
  sum = WarpSum(sum);
  if (threadIdx.x % kWarpLanes == 0) sums[threadIdx.x / kWarpLanes] = sum;
  __syncthreads();
  if (threadIdx.x < kWarpLanes) {
    sum = WarpSum(sums[threadIdx.x]);
    if (threadIdx.x == 0) sums[0] = sum;
  }
  __syncthreads();
  return sums[0];
}

/// The best of what all threads bring; `warps` [kSelectWarps] likewise.
__device__ inline ScanBest BlockBest(ScanBest best, ScanBest* warps) {
  best = WarpBest(best);
  if (threadIdx.x % kWarpLanes == 0) warps[threadIdx.x / kWarpLanes] = best;
  __syncthreads();
  if (threadIdx.x < kWarpLanes) {
    best = WarpBest(warps[threadIdx.x]);
    if (threadIdx.x == 0) warps[0] = best;
  }
  __syncthreads();
  return warps[0];
}

/// Puts the candidates from `low` to `high`, at most kListed, into the list; how many.
__device__ inline int32_t List(const Candidates& c, Place low, Place high, const SelectTables& t) {
  if (threadIdx.x == 0) t.found->listed = 0;
  __syncthreads();
  ForCandidates(c, [&](Place place, float) {
    if (place >= low && place <= high) t.list[atomicAdd(&t.found->listed, 1)] = place;
  });
  __syncthreads();
  return t.found->listed;
}

/// The weights of the bins of [low, high], each 1 << shift places, and what lies beyond in the last.
template <bool kMass>
__device__ void CountBins(const Candidates& c, Place low, Place high, int shift,
                          const SelectTables& t) {
  for (int i = threadIdx.x; i < kBins; i += kSelectThreads) {
    t.weights[i] = 0;
    t.counts[i] = 0;
  }
  __syncthreads();
  Mass beyond = 0;
  int32_t beyond_count = 0;
  ForCandidates(c, [&](Place place, float x) {
    if (place < low) return;
    const Mass weight = kMass ? MassOf(x, c.best) : 1;
    if (place > high) {
      beyond += weight;
      ++beyond_count;
      return;
    }
    const int bin = static_cast<int>((place - low) >> shift);
    atomicAdd(&t.weights[bin], weight);
    atomicAdd(&t.counts[bin], 1);
  });
  beyond = WarpSum(beyond);
  beyond_count = static_cast<int32_t>(WarpSum(beyond_count));
  if (threadIdx.x % kWarpLanes == 0) {
    atomicAdd(&t.weights[kBins - 1], beyond);
    atomicAdd(&t.counts[kBins - 1], beyond_count);
  }
  __syncthreads();
}

/// The bin in which the sum of the weights from `before` on reaches wanted(total), into t.found.
template <class Wanted>
__device__ void FindBin(Mass before, const Wanted& wanted, const SelectTables& t) {
  const int first = threadIdx.x * kBinsOfThread;
  Mass own = 0;
  for (int i = 0; i < kBinsOfThread; ++i) own += t.weights[first + i];
  const int lane = threadIdx.x % kWarpLanes;
  Mass through = own;  // inclusive sum over the warp
  for (int by = 1; by < kWarpLanes; by *= 2) {
    const Mass other = __shfl_up_sync(0xffffffff, through, by);
    if (lane >= by) through += other;
  }
  Mass* sums = t.warps + kSelectWarps;
  if (lane == kWarpLanes - 1) sums[threadIdx.x / kWarpLanes] = through;
  __syncthreads();
  Mass total = before;
  for (int w = 0; w < kSelectWarps; ++w) {
    if (w < threadIdx.x / kWarpLanes) through += sums[w];
    total += sums[w];
  }
  const Mass end = wanted(total);
  Mass at = before + through - own;
  for (int i = 0; i < kBinsOfThread; ++i) {
    const Mass weight = t.weights[first + i];
    if (at < end && at + weight >= end) *t.found = {total, at, first + i, t.counts[first + i], 0};
    at += weight;
  }
  __syncthreads();
}

__device__ inline int ShiftOf(Place span) {
  const auto high = static_cast<uint32_t>(span >> 32);
  const int bits = high != 0 ? 64 - __clz(static_cast<int>(high))
                             : 32 - __clz(static_cast<int>(static_cast<uint32_t>(span)));
  const int shift = bits > 11 ? bits - 11 : 0;
  return (span >> shift) < kBins - 1 ? shift : shift + 1;  // the last bin is free
}

/// The place of the last candidate of the fewest, the most likely first, whose weight reaches
/// wanted(weight of all), which is from 1 to that weight. The weight is a candidate's mass, or 1.
template <bool kMass, class Wanted>
__device__ Place FindEnd(Candidates c, const Wanted& wanted, const SelectTables& t) {
  Place low = 0;
  const uint32_t likely = c.order - OrderOf(__fsub_rn(c.best, kLikely));
  Place high = Place{likely} << 32 | 0xffffffffu;
  const Place everything = ~Place{0};
  Mass before = 0;
  Mass end = 0;
  for (;;) {
    const int shift = ShiftOf(high - low);
    CountBins<kMass>(c, low, high, shift, t);
    FindBin(
        before, [&](Mass total) { return end == 0 ? wanted(total) : end; }, t);
    if (end == 0) end = wanted(t.found->total);
    const int bin = t.found->bin;
    const int32_t count = t.found->count;
    before = t.found->before;
    if (bin == kBins - 1) {
      low = high + 1;
      high = everything;
    } else {
      low += Place{static_cast<unsigned>(bin)} << shift;
      high = low + ((Place{1} << shift) - 1);
    }
    if (count == 1 || (!kMass && before + count == end)) return high;
    if (c.listed == kNotListed && count <= kListed) {
      c.listed = List(c, low, high, t);
      c.list = t.list;
    }
    __syncthreads();
  }
}

}  // namespace penstock::PENSTOCK_KERNELS
