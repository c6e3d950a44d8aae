// Sixteen cached positions of a KV head (a unit): how they come into shared memory, and how a warp
// takes them from there as operands of the tensor cores. int8 stays int8 in shared memory and becomes
// numbers, exactly, in registers.
// Owns nothing. Must not know rows, softmax or plans.
// Threads: device code; functions named Warp* are called by all 32 lanes together.
#pragma once

#include "kernels/attention_work.h"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kUnitPositions = 16;
constexpr float kLog2E = 1.44269504f;

/// What kernels take: the arguments, and what is the same for all of their threads.
struct AttentionParameters : AttentionArgs {
  explicit AttentionParameters(const AttentionArgs& a, int num_stages = 0)
      : AttentionArgs(a),
        score_scale(a.soft_cap == 0.0f ? a.scale * kLog2E : a.scale / a.soft_cap),
        score_cap(a.soft_cap * kLog2E),
        stages(num_stages),
        words(a.head_dim * (a.cache.element == Element::kInt8 ? 1 : 2) % 16 != 0) {}
  float score_scale;  // of products, to what score_cap is applied to
  float score_cap;    // 0: none; scores are binary logarithms
  int32_t stages;     // of positions in flight
  bool words;         // rows of positions are no multiples of 16 bytes and copied by words
};

/// Where 16-byte chunk `chunk` of row `row` lies in rows of kChunks, so that the same chunk of eight
/// rows in a row lies in different banks.
template <int kChunks>
__device__ inline int SwizzledChunk(int row, int chunk) {
  if constexpr (kChunks >= 8) {
    return row * kChunks + (chunk ^ (row & 7));
  } else {
    return row * kChunks + (chunk ^ (row / (8 / kChunks) & (kChunks - 1)));
  }
}

/// Bytes `low` and `high` of four signed ones as numbers.
template <class T>
__device__ inline uint32_t PairOfBytes(uint32_t four, int low, int high) {
  const auto number = [](uint32_t flipped, int which) {  // 2^23 + 128 + the byte, exactly
    return __uint_as_float(0x4B000000u | (flipped >> 8 * which & 0xff)) - 8388736.0f;
  };
  const uint32_t flipped = four ^ 0x80808080u;
  return PackPair(T(), number(flipped, low), number(flipped, high));
}

/// Kv: what is cached; T: the queries' type. kInterleaved: keys lie [dimension][position].
template <class T, class Kv, int kDim, bool kInterleaved>
struct AttentionUnit {
  static constexpr bool kBytes = sizeof(Kv) == 1;
  using ValueType = std::conditional_t<kBytes, __nv_bfloat16, T>;  // of products with values: its
                                                                   // range is that of any scale
  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(Kv));
  static constexpr int kChunks = kRowBytes / 16;
  static constexpr int kTileBytes = kUnitPositions * kRowBytes;
  static constexpr int kScalesAt = 2 * kTileBytes;  // of keys, then of values
  static constexpr int kSharedBytes =
      kScalesAt + (kBytes ? 2 * kUnitPositions * static_cast<int>(sizeof(float)) : 0);
  static constexpr int kKeySteps = kBytes ? 2 : 1;    // of 16 dimensions, in one WarpLoadKeys
  static constexpr int kValueTiles = kBytes ? 4 : 2;  // of 8 dimensions, in one WarpLoadValues

  /// The position that column `column` of scores' tile n stands for. Rows of values lie in that order.
  static __device__ int PositionOf(int n, int column) {
    return kBytes && kInterleaved ? 2 * column + n : 8 * n + column;
  }

  /// Positions [begin, end) of the unit; of the others scores are arbitrary and values 0. Called by
  /// kThreads threads, of which this one is `thread`; in flight until it waits for its copies.
  template <int kThreads>
  static __device__ void Copy(const AttentionParameters& a, const Kv* keys, int begin, int end,
                              int thread, unsigned char* to) {
    if constexpr (kInterleaved) {
      constexpr int kPerDim = static_cast<int>(sizeof(Kv));
      constexpr int kPositions = 16 / kPerDim;  // of a chunk
#pragma unroll
      for (int i = 0; i < kDim * kPerDim; i += kThreads) {
        const int chunk = i + thread;
        const int dim = chunk / kPerDim;
        const int first = chunk % kPerDim * kPositions;
        const bool is_seen = dim < a.head_dim && first < end && first + kPositions > begin;
        CpAsync16(to + SwizzledChunk<kPerDim>(dim, chunk % kPerDim) * 16,
                  keys + (is_seen ? chunk * kPositions : 0), is_seen ? 16 : 0);
      }
    } else {
      CopyRows<kThreads>(a, keys, begin, end, thread, to);
    }
    if (a.cache.kv_stride != 0) {
      CopyRows<kThreads>(a, keys + a.cache.kv_stride, begin, end, thread, to + kTileBytes);
    }
  }
  /// What belongs to Copy where there are scales, `scales` those of the unit's keys.
  template <int kThreads>
  static __device__ void CopyScales(const AttentionParameters& a, const float* scales, int begin,
                                    int end, int thread, unsigned char* to) {
    if (kThreads > 2 * kUnitPositions && thread >= 2 * kUnitPositions) return;
    const int position = thread % kUnitPositions;
    const bool of_values = thread >= kUnitPositions;
    float* out = reinterpret_cast<float*>(to + kScalesAt) + thread;
    if (position >= begin && position < end) {
      CpAsync<4>(out, scales + position + (of_values ? a.cache.kv_stride / 4 : 0));
    } else {
      *out = 0.0f;
    }
  }

  /// The keys' side of scores' tiles 0 and 1 for kKeySteps times 16 dimensions from step * 16 on.
  static __device__ void WarpLoadKeys(int lane, const unsigned char* unit, int step,
                                      uint32_t (&b)[kKeySteps][2][2]) {
    const int matrix = lane / 8;
    const int row = lane % 8;
    uint32_t r[4];
    if constexpr (kInterleaved && kBytes) {  // 8 dimensions of 16 positions each
      WarpLoadTransposed(r, unit + (step * 16 + matrix * 8 + row) * 16);
      for (int s = 0; s < 2; ++s) {
        for (int n = 0; n < 2; ++n) {
          for (int i = 0; i < 2; ++i) b[s][n][i] = PairOfBytes<T>(r[2 * s + i], n, n + 2);
        }
      }
    } else if constexpr (kInterleaved) {  // 8 dimensions of 8 positions
      const int dim = step * 16 + matrix % 2 * 8 + row;
      WarpLoadTransposed(r, unit + SwizzledChunk<2>(dim, matrix / 2) * 16);
      for (int i = 0; i < 4; ++i) b[0][i / 2][i % 2] = r[i];
    } else if constexpr (kBytes) {
      // 8 positions of 16 dimensions each, of which 4t to 4t + 3 are a lane's.
      const int chunk = step + matrix / 2;
      WarpLoadMatrices(r, unit + SwizzledChunk<kChunks>(matrix % 2 * 8 + row, chunk) * 16);
      for (int s = 0; s < 2; ++s) {
        for (int n = 0; n < 2; ++n) {
          for (int i = 0; i < 2; ++i) {
            b[s][n][i] = PairOfBytes<T>(r[2 * s + n], 2 * i, 2 * i + 1);
          }
        }
      }
    } else {  // 8 positions of 8 dimensions
      const int chunk = step * 2 + matrix % 2;
      WarpLoadMatrices(r, unit + SwizzledChunk<kChunks>(matrix / 2 * 8 + row, chunk) * 16);
      for (int i = 0; i < 4; ++i) b[0][i / 2][i % 2] = r[i];
    }
  }
  /// Where a staged query has dimensions 2 * pair and 2 * pair + 1, in pairs: in the order in which
  /// WarpLoadKeys has them.
  static __device__ int QueryPair(int pair) {
    if constexpr (kBytes && !kInterleaved) {
      return pair / 8 * 8 + pair % 2 * 4 + pair % 8 / 2;
    } else {
      return pair;
    }
  }

  /// The values' side of kValueTiles tiles of the output, from dimension `dim` on.
  static __device__ void WarpLoadValues(int lane, const unsigned char* unit, bool keys_are_values,
                                        int dim, uint32_t (&b)[kValueTiles][2]) {
    const unsigned char* values = unit + (keys_are_values ? 0 : kTileBytes);
    const int matrix = lane / 8;
    const int row = lane % 8 + matrix % 2 * 8;
    const int chunk = dim * static_cast<int>(sizeof(Kv)) / 16 + matrix / 2;
    uint32_t r[4];
    WarpLoadTransposed(r, values + SwizzledChunk<kChunks>(row, chunk) * 16);
    if constexpr (kBytes) {  // 16 dimensions a matrix, a lane has 2g and 2g + 1
      for (int n = 0; n < 4; ++n) {
        for (int i = 0; i < 2; ++i) {
          b[n][i] = PairOfBytes<ValueType>(r[n / 2 * 2 + i], n % 2, n % 2 + 2);
        }
      }
    } else {
      for (int i = 0; i < 4; ++i) b[i / 2][i % 2] = r[i];
    }
  }
  /// Calls fn(dimension, numbers...) for runs of numbers that a lane has of a row (`half` 0: g, 1:
  /// g + 8) of kTiles tiles of output, dimensions from 0 on.
  template <int kTiles, class Fn>
  static __device__ void ForRuns(const float (&o)[kTiles][4], int half, Fn fn) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      if constexpr (kBytes) {
        const float run[4] = {o[n][2 * half], o[n + 1][2 * half], o[n][2 * half + 1],
                              o[n + 1][2 * half + 1]};
        fn(n * 8 + 4 * t, run);
      } else {
        for (int i = 0; i < 2; ++i) {
          const float run[2] = {o[n + i][2 * half], o[n + i][2 * half + 1]};
          fn((n + i) * 8 + 2 * t, run);
        }
      }
    }
  }

 private:
  /// Rows of positions, in the order of PositionOf.
  template <int kThreads>
  static __device__ void CopyRows(const AttentionParameters& a, const Kv* rows, int begin, int end,
                                  int thread, unsigned char* to) {
    const int row_bytes = a.head_dim * static_cast<int>(sizeof(Kv));
    const auto* from = reinterpret_cast<const unsigned char*>(rows);
    if (!a.words) {
#pragma unroll
      for (int i = 0; i < kUnitPositions * kChunks; i += kThreads) {
        if (kUnitPositions * kChunks % kThreads != 0 && i + thread >= kUnitPositions * kChunks)
          break;
        const int row = (i + thread) / kChunks;
        const int chunk = (i + thread) % kChunks;
        const int position = PositionOf(row / 8, row % 8);
        const bool is_seen = position >= begin && position < end && chunk * 16 < row_bytes;
        CpAsync16(to + SwizzledChunk<kChunks>(row, chunk) * 16,
                  from + (is_seen ? position * row_bytes + chunk * 16 : 0), is_seen ? 16 : 0);
      }
      return;
    }
#pragma unroll 1
    for (int i = thread; i < kUnitPositions * kChunks * 4; i += kThreads) {
      const int row = i / (kChunks * 4);
      const int word = i % (kChunks * 4);
      const int position = PositionOf(row / 8, row % 8);
      unsigned char* out = to + SwizzledChunk<kChunks>(row, word / 4) * 16 + word % 4 * 4;
      if (position >= begin && position < end && word * 4 < row_bytes) {
        CpAsync<4>(out, from + position * row_bytes + word * 4);
      } else {
        *reinterpret_cast<uint32_t*>(out) = 0;
      }
    }
  }
};

}  // namespace penstock::PENSTOCK_KERNELS
