// Attention of up to 64 or 128 vectors: four warps of 16 or 32 vectors each, which walk the same
// positions. Keys lie [dimension][position].
// Owns nothing. Must not know plans beyond an item.
// Threads: device code, a block of kAttentionThreads.
#pragma once

#include "kernels/attention_rows.cuh"

namespace penstock::PENSTOCK_KERNELS {

template <class T, class Kv, int kDim, int kRows>
class AttentionTileWide {
  using Unit = AttentionUnit<T, Kv, kDim, true>;
  static constexpr int kParts = kRows / 64;  // of 16 vectors, of a warp
  static constexpr int kUnits = kDim <= 128 ? 4 : 2;
  static constexpr int kStepUnits = kDim <= 128 && kParts == 1 ? 4 : 2;  // scored together
  static constexpr int kUnitThreads = kAttentionThreads / kUnits;        // that copy one
  static constexpr int kStagePositions = kUnits * kUnitPositions;
  static constexpr int kStepPositions = kStepUnits * kUnitPositions;
  static constexpr int kStageBytes = kUnits * Unit::kSharedBytes;
  static constexpr int kTiles = kDim / 8;
  static constexpr int kQueryBytes = kRows * kDim * 2;
  // Every step's addresses in registers would be more than there are beside 128 sums.
  static constexpr int kKeyUnroll = kParts * kDim == 256 ? 2 : kDim / 16;

 public:
  static constexpr size_t SharedBytes(int stages) { return kQueryBytes + stages * kStageBytes; }

  /// What is in shared memory is over when it begins.
  static __device__ void Run(const AttentionParameters& a, const AttentionItem& item,
                             unsigned char* shared) {
    const int first_vector = static_cast<int>(threadIdx.x) / 32 * 16 * kParts;
    const int copied = threadIdx.x / kUnitThreads;
    unsigned char* ring = shared + kQueryBytes;
    const int32_t first = item.kv_begin / kStagePositions;
    const int32_t last = (item.kv_end - 1) / kStagePositions;
    const auto position_of = [&](int32_t stage) {
      return stage * kStagePositions + copied * kUnitPositions;
    };
    int32_t block = BlockOf(a, item, position_of(first));
    const auto copy = [&](int32_t stage, int slot) {
      if (stage <= last) {
        CopyUnit<Kv, Unit, kUnitThreads, false>(
            a, item, block, position_of(stage), Recomputed(threadIdx.x % kUnitThreads),
            ring + slot * kStageBytes + copied * Unit::kSharedBytes);
      }
      CpAsyncCommit();
      block = BlockOf(a, item, position_of(stage + 1));
    };
    for (int i = 0; i < a.stages - 1; ++i) copy(first + i, i);
    StageQueries<T, Unit, kDim, kRows>(a, item, shared);
    PdlTrigger();
    RowState rows[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      rows[part] = StartRows(a, item, first_vector + 16 * part);
    }
    const Seen seen = SeenByWarp(a, item, first_vector);
    float o[kParts][kTiles][4] = {};
    int slot = 0;
#pragma unroll 1
    for (int32_t stage = first; stage <= last; ++stage) {
      WaitForStage(a.stages);
      __syncthreads();  // at first, queries are there as well
      copy(stage + a.stages - 1, slot == 0 ? a.stages - 1 : slot - 1);
      const unsigned char* units = ring + slot * kStageBytes;
      slot = slot + 1 == a.stages ? 0 : slot + 1;
#pragma unroll 1
      for (int step = 0; step < kUnits; step += kStepUnits) {
        const int32_t position = stage * kStagePositions + step * kUnitPositions;
        if (position >= seen.to || position + kStepPositions <= seen.from) continue;
        WarpStep(a, item, position, units + step * Unit::kSharedBytes, shared, first_vector, rows,
                 o);
      }
    }
    CpAsyncWait<0>();
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      WarpAddSums(rows[part]);
      WriteRows(a, item, first_vector + 16 * part, rows[part], o[part]);
    }
  }

 private:
  struct Seen {
    int32_t from;
    int32_t to;
  };
  /// Positions that any of the warp's vectors sees.
  static __device__ Seen SeenByWarp(const AttentionParameters& a, const AttentionItem& item,
                                    int first) {
    if (first >= item.num_vectors) return {0, 0};
    const int end = min(first + 16 * kParts, item.num_vectors);
    const int32_t begin_at = item.position + PlaceOf(a, item.head_begin, item.kv_head, first).row;
    const int32_t end_at = item.position + PlaceOf(a, item.head_begin, item.kv_head, end - 1).row;
    return {a.window > 0 ? begin_at - a.window + 1 : 0, end_at + 1};
  }

  /// Takes kStepUnits units into the running softmax and output of the warp's vectors.
  static __device__ void WarpStep(const AttentionParameters& a, const AttentionItem& item,
                                  int32_t position, const unsigned char* units,
                                  const unsigned char* queries, int first_vector,
                                  RowState (&rows)[kParts], float (&o)[kParts][kTiles][4]) {
    const int lane = Recomputed(threadIdx.x % 32);
    float s[kParts][kStepUnits][2][4] = {};
#pragma unroll(kKeyUnroll)
    for (int step = 0; step < kDim / 16; step += Unit::kKeySteps) {
      uint32_t q[kParts][Unit::kKeySteps][4];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        for (int i = 0; i < Unit::kKeySteps; ++i) {
          WarpLoadQueries<kDim>(lane, queries, first_vector + 16 * part, step + i, q[part][i]);
        }
      }
#pragma unroll
      for (int u = 0; u < kStepUnits; ++u) {
        uint32_t keys[Unit::kKeySteps][2][2];
        Unit::WarpLoadKeys(lane, units + u * Unit::kSharedBytes, step, keys);
#pragma unroll
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          for (int i = 0; i < Unit::kKeySteps; ++i) {
            for (int n = 0; n < 2; ++n) WarpMma(T(), s[part][u][n], q[part][i], keys[i][n]);
          }
        }
      }
    }
#pragma unroll
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      float alpha[2];
      WarpSoftmax<Unit, kStepUnits>(a, item, position, units, rows[part], s[part], alpha);
      if (__any_sync(0xffffffff, alpha[0] != 1.0f || alpha[1] != 1.0f)) {
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          for (int i = 0; i < 4; ++i) o[part][n][i] *= alpha[i / 2];
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kStepUnits; ++u) {
      const unsigned char* unit = units + u * Unit::kSharedBytes;
      uint32_t p[kParts][4];
#pragma unroll
      for (int part = 0; part < kParts; ++part) PackProbabilities<Unit>(unit, s[part][u], p[part]);
#pragma unroll
      for (int n = 0; n < kTiles; n += Unit::kValueTiles) {
        uint32_t values[Unit::kValueTiles][2];
        Unit::WarpLoadValues(lane, unit, false, n * 8, values);
#pragma unroll
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          for (int i = 0; i < Unit::kValueTiles; ++i) {
            WarpMma(typename Unit::ValueType(), o[part][n + i], p[part], values[i]);
          }
        }
      }
    }
  }

  static __device__ void WriteRows(const AttentionParameters& a, const AttentionItem& item,
                                   int first_vector, const RowState& rows,
                                   const float (&o)[kTiles][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t i = first_vector + lane / 4 + 8 * half;
      if (i >= item.num_vectors) continue;
      const float base = rows.maximum[half] == MinusInfinity() ? 0.0f : rows.maximum[half];
      const float log_sum = LogSum(base, rows.sum[half]);
      const VectorResult<T> result(a, item, i, rows.sum[half], log_sum);
      if (lane % 4 == 0) result.StoreLogSum(a, log_sum);
      Unit::ForRuns(o, half, [&](int dim, const auto& run) {
        if (dim < a.head_dim) result.Store(dim, run);
      });
    }
  }
};

}  // namespace penstock::PENSTOCK_KERNELS
