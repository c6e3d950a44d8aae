// The vectors of an item of attention: queries as operands, which positions each sees, a running
// softmax over units of positions, and the result, written or kept as a partial one.
// Owns nothing. Must not know how warps share an item.
// Threads: device code; functions named Warp* are called by all 32 lanes together.
#pragma once

#include "kernels/attention_kv.cuh"
#include "kernels/launch.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kAttentionThreads = 128;

__device__ inline float MinusInfinity() { return __uint_as_float(0xff800000u); }

/// Vector i of an item: its row of the batch, counted from item.row_begin, and its query head.
struct VectorPlace {
  int32_t row;
  int32_t head;
};
__device__ inline VectorPlace PlaceOf(const AttentionParameters& a, int32_t head_begin,
                                      int32_t kv_head, int32_t i) {
  const int32_t at = head_begin + i;
  const int32_t row = at / a.group;
  return {row, kv_head * a.group + at - row * a.group};
}

/// Queries as rows of kDim elements, dimensions in the order of the keys' operand; zeros where there
/// is no vector or no dimension. Called by the whole block.
template <class T, class Unit, int kDim, int kRows>
__device__ void StageQueries(const AttentionParameters& a, const AttentionItem& item,
                             unsigned char* to) {
  constexpr int kPairs = kDim / 2;
  const int32_t first = threadIdx.x % kPairs;
  const int32_t step = kAttentionThreads / kPairs > 0 ? kAttentionThreads / kPairs : 1;
#pragma unroll 1
  for (int32_t r = threadIdx.x / kPairs; r < kRows; r += step) {
    const VectorPlace place = PlaceOf(a, item.head_begin, item.kv_head, r);
    const T* q = static_cast<const T*>(a.q) + (int64_t{item.row_begin} + place.row) * a.q_stride +
                 int64_t{place.head} * a.head_dim;
    for (int32_t pair = first; pair < kPairs; pair += kAttentionThreads) {
      uint32_t both = 0;
      if (r < item.num_vectors && 2 * pair < a.head_dim) {
        both = *reinterpret_cast<const uint32_t*>(q + 2 * pair);
      }
      const int at = Unit::QueryPair(pair);
      *reinterpret_cast<uint32_t*>(to + SwizzledChunk<kDim / 8>(r, at / 4) * 16 + at % 4 * 4) =
          both;
    }
  }
}
/// Sixteen staged queries from `row` on, dimensions step * 16 to step * 16 + 15.
template <int kDim>
__device__ inline void WarpLoadQueries(int lane, const unsigned char* staged, int row, int step,
                                       uint32_t (&q)[4]) {
  const int matrix = lane / 8;
  const int r = row + matrix % 2 * 8 + lane % 8;
  WarpLoadMatrices(q, staged + SwizzledChunk<kDim / 8>(r, step * 2 + matrix / 2) * 16);
}

/// Where a unit's keys of the item's head are cached.
template <class Kv>
__device__ inline const Kv* KeysOf(const AttentionParameters& a, const AttentionItem& item,
                                   int32_t block, int32_t position) {
  return static_cast<const Kv*>(a.cache.data) + int64_t{block} * a.cache.block_stride +
         int64_t{item.kv_head} * a.cache.head_stride +
         int64_t{position % a.cache.block_size} * a.head_dim;
}
template <class Kv>
__device__ inline const float* ScalesOf(const AttentionParameters& a, const AttentionItem& item,
                                        int32_t block, int32_t position) {
  const Kv* head = static_cast<const Kv*>(a.cache.data) + int64_t{block} * a.cache.block_stride +
                   int64_t{item.kv_head} * a.cache.head_stride;
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(head) + a.cache.scales_at) +
         position % a.cache.block_size;
}

/// Whether the unit at `position` has positions of the item.
__device__ inline bool HoldsSome(const AttentionItem& item, int32_t position) {
  return position < item.kv_end && position + kUnitPositions > item.kv_begin;
}
/// Where the unit at `position` is cached; 0 where it has no positions of the item.
__device__ inline int32_t BlockOf(const AttentionParameters& a, const AttentionItem& item,
                                  int32_t position) {
  if (!HoldsSome(item, position)) return 0;
  return a.cache.tables[int64_t{item.slot} * a.cache.max_blocks + position / a.cache.block_size];
}
/// Begins the copy of the unit at `position`, by kThreads threads. One without positions of the item
/// is left alone, or all of its scores are arbitrary and its values 0.
template <class Kv, class Unit, int kThreads, bool kLeavesAlone>
__device__ inline void CopyUnit(const AttentionParameters& a, const AttentionItem& item,
                                int32_t block, int32_t position, int thread, unsigned char* to) {
  if (kLeavesAlone && !HoldsSome(item, position)) return;
  const int32_t begin = item.kv_begin - position;
  const int32_t end = item.kv_end - position;
  Unit::template Copy<kThreads>(a, KeysOf<Kv>(a, item, block, position), begin, end, thread, to);
  if constexpr (Unit::kBytes) {
    Unit::template CopyScales<kThreads>(a, ScalesOf<Kv>(a, item, block, position), begin, end,
                                        thread, to);
  }
}
/// Until the oldest of stages - 1 groups of copies is there.
__device__ inline void WaitForStage(int stages) {
  if (stages == 2) {
    CpAsyncWait<0>();
  } else if (stages == 3) {
    CpAsyncWait<1>();
  } else {
    CpAsyncWait<2>();
  }
}
constexpr int kLeastStages = 2;
constexpr int kMostStages = 4;

/// What a lane knows of the two rows that it has a part of, g and g + 8 of sixteen vectors.
struct RowState {
  int32_t position[2];  // -1: there is no vector
  float maximum[2];
  float sum[2];  // of this lane's columns
};

/// `first`: the item's vector that row 0 is.
__device__ inline RowState StartRows(const AttentionParameters& a, const AttentionItem& item,
                                     int first) {
  RowState s;
  for (int half = 0; half < 2; ++half) {
    const int32_t i = first + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half;
    const int32_t row = PlaceOf(a, item.head_begin, item.kv_head, i).row;
    s.position[half] = i < item.num_vectors ? item.position + row : -1;
    s.maximum[half] = MinusInfinity();
    s.sum[half] = 0.0f;
  }
  return s;
}

/// Scores of kUnits units, [unit][tile][lane's four], from products to probabilities, which are added
/// to the rows' sums; `alpha` is what the output so far is multiplied by. A row that has seen nothing
/// has the maximum -infinity.
template <class Unit, int kUnits>
__device__ inline void WarpSoftmax(const AttentionParameters& a, const AttentionItem& item,
                                   int32_t position, const unsigned char* units, RowState& rows,
                                   float (&s)[kUnits][2][4], float (&alpha)[2]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    for (int n = 0; n < 2; ++n) {
      for (int i = 0; i < 4; ++i) {
        float x = s[u][n][i];
        if constexpr (Unit::kBytes) {
          x *= reinterpret_cast<const float*>(units + u * Unit::kSharedBytes +
                                              Unit::kScalesAt)[Unit::PositionOf(n, 2 * t + i % 2)];
        }
        x *= a.score_scale;
        if (a.score_cap != 0.0f) x = a.score_cap * tanhf(x);
        s[u][n][i] = x;
      }
    }
  }
  const int32_t last = position + kUnits * kUnitPositions - 1;
  const int32_t gone = a.window > 0 ? max(rows.position[0], rows.position[1]) - a.window : -1;
  const bool sees_all = position > gone && position >= item.kv_begin &&
                        last <= min(rows.position[0], rows.position[1]) && last < item.kv_end;
  if (!__all_sync(0xffffffff, sees_all)) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      for (int n = 0; n < 2; ++n) {
        for (int i = 0; i < 4; ++i) {
          const int32_t p = position + u * kUnitPositions + Unit::PositionOf(n, 2 * t + i % 2);
          const int32_t own = rows.position[i / 2];
          const bool is_seen = p <= own && (a.window == 0 || p > own - a.window) &&
                               p >= item.kv_begin && p < item.kv_end;
          if (!is_seen) s[u][n][i] = MinusInfinity();
        }
      }
    }
  }
  float most[2] = {rows.maximum[0], rows.maximum[1]};
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    for (int n = 0; n < 2; ++n) {
      for (int i = 0; i < 4; ++i) most[i / 2] = fmaxf(most[i / 2], s[u][n][i]);
    }
  }
  float base[2];
  for (int half = 0; half < 2; ++half) {
    most[half] = fmaxf(most[half], __shfl_xor_sync(0xffffffff, most[half], 1));
    most[half] = fmaxf(most[half], __shfl_xor_sync(0xffffffff, most[half], 2));
    base[half] = most[half] == MinusInfinity() ? 0.0f : most[half];
    alpha[half] = FastExp2(rows.maximum[half] - base[half]);
    rows.maximum[half] = most[half];
    rows.sum[half] *= alpha[half];
  }
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    for (int n = 0; n < 2; ++n) {
      for (int i = 0; i < 4; ++i) {
        const float p = FastExp2(s[u][n][i] - base[i / 2]);
        s[u][n][i] = p;
        rows.sum[i / 2] += p;
      }
    }
  }
}

/// Probabilities of a unit as the left operand of products with its values; a value's scale
/// multiplies the probability, unless that is nothing.
template <class Unit>
__device__ inline void PackProbabilities(const unsigned char* unit, const float (&p)[2][4],
                                         uint32_t (&left)[4]) {
  const int t = threadIdx.x % 4;
  for (int n = 0; n < 2; ++n) {
    for (int half = 0; half < 2; ++half) {
      float pair[2] = {p[n][2 * half], p[n][2 * half + 1]};
      if constexpr (Unit::kBytes) {
        const float* scales =
            reinterpret_cast<const float*>(unit + Unit::kScalesAt) + kUnitPositions;
        for (int i = 0; i < 2; ++i) {
          const float scaled = pair[i] * scales[Unit::PositionOf(n, 2 * t + i)];
          pair[i] = pair[i] == 0.0f ? 0.0f : scaled;
        }
      }
      left[2 * n + half] = PackPair(typename Unit::ValueType(), pair[0], pair[1]);
    }
  }
}

/// The lanes' sums of each row as one.
__device__ inline void WarpAddSums(RowState& rows) {
  for (int half = 0; half < 2; ++half) {
    rows.sum[half] += __shfl_xor_sync(0xffffffff, rows.sum[half], 1);
    rows.sum[half] += __shfl_xor_sync(0xffffffff, rows.sum[half], 2);
  }
}
/// The binary logarithm of a sum of powers of two that were divided by 2^maximum.
__device__ inline float LogSum(float maximum, float sum) {
  return sum == 0.0f ? MinusInfinity() : maximum + log2f(sum);
}
/// 1 / sum; 0 where nothing was summed.
__device__ inline float InverseOf(float sum) { return sum == 0.0f ? 0.0f : __fdiv_rn(1.0f, sum); }
/// What of a result remains beside a sink.
__device__ inline float ShareBeside(float sink, float log_sum) {
  const float most = fmaxf(log_sum, sink);
  const float own = FastExp2(log_sum - most);
  return __fdiv_rn(own, own + FastExp2(sink - most));
}

template <class T, int kCount>
__device__ inline void StoreRun(T* to, const float (&v)[kCount]) {
  static_assert(kCount == 2 || kCount == 4);
  if constexpr (kCount == 2) {
    *reinterpret_cast<uint32_t*>(to) = PackPair(T(), v[0], v[1]);
  } else {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(PackPair(T(), v[0], v[1]), PackPair(T(), v[2], v[3]));
  }
}
template <int kCount>
__device__ inline void StoreRun(float* to, const float (&v)[kCount]) {
  if constexpr (kCount == 2) {
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
  } else {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  }
}

/// Where the result of a vector goes, and what it is multiplied by on the way.
template <class T>
class VectorResult {
 public:
  /// `sum`: by which its outputs are divided; `log_sum`: of the scores of all of the item.
  __device__ VectorResult(const AttentionParameters& a, const AttentionItem& item, int32_t i,
                          float sum, float log_sum)
      : inverse_(InverseOf(sum)) {
    if (item.partial >= 0) {
      index_ = item.partial + int64_t{i};
      partial_ = a.partials + index_ * a.head_dim;
      return;
    }
    const VectorPlace place = PlaceOf(a, item.head_begin, item.kv_head, i);
    y_ = static_cast<T*>(a.y) + (int64_t{item.row_begin} + place.row) * a.y_stride +
         int64_t{place.head} * a.head_dim;
    if (a.sinks != nullptr) share_ = ShareBeside(a.sinks[place.head] * kLog2E, log_sum);
  }
  __device__ void StoreLogSum(const AttentionParameters& a, float log_sum) const {
    if (partial_ != nullptr) a.partial_sums[index_] = log_sum;
  }
  template <int kCount>
  __device__ void Store(int32_t dim, const float (&o)[kCount]) const {
    float v[kCount];
    for (int i = 0; i < kCount; ++i) v[i] = __fmul_rn(o[i], inverse_);
    if (partial_ != nullptr) return StoreRun(partial_ + dim, v);
    for (int i = 0; i < kCount; ++i) v[i] = __fmul_rn(v[i], share_);
    StoreRun(y_ + dim, v);
  }

 private:
  T* y_ = nullptr;
  float* partial_ = nullptr;
  int64_t index_ = 0;
  float inverse_;
  float share_ = 1.0f;
};

}  // namespace penstock::PENSTOCK_KERNELS
