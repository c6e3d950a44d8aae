// Attention of up to 16 vectors. Four warps each walk units of positions of their own, with a running
// maximum, sum and output of their own, which are merged in shared memory, in the order of the warps.
// Where a head is wider than 128 several warps share a unit, each with 128 columns of the output.
// Owns nothing. Must not know plans beyond an item.
// Threads: device code, a block of kAttentionThreads.
#pragma once

#include "kernels/attention_rows.cuh"

namespace penstock::PENSTOCK_KERNELS {

template <class T, class Kv, int kDim, bool kInterleaved>
class AttentionTile16 {
  using Unit = AttentionUnit<T, Kv, kDim, kInterleaved>;
  static constexpr int kRows = 16;
  static constexpr int kColumns = kDim < 128 ? kDim : 128;  // of a warp
  static constexpr int kColumnWarps = kDim / kColumns;
  static constexpr int kUnitWarps = kAttentionThreads / 32 / kColumnWarps;
  static constexpr int kUnitThreads = 32 * kColumnWarps;  // that share a unit
  static constexpr int kStagePositions = kUnitWarps * kUnitPositions;
  static constexpr int kStageBytes = kUnitWarps * Unit::kSharedBytes;
  static constexpr int kTiles = kColumns / 8;
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr bool kKeepsQueries = kDim <= 128;  // in registers
  static constexpr int kPitch = kDim + 8;             // of rows that are merged
  static constexpr int kMergeBytes = kUnitWarps * kRows * (kPitch + 2) * 4;

 public:
  static constexpr size_t SharedBytes(int stages) {
    const int ring = stages * kStageBytes;
    return kQueryBytes + (ring > kMergeBytes ? ring : kMergeBytes);
  }

  /// What is in shared memory is over when it begins.
  static __device__ void Run(const AttentionParameters& a, const AttentionItem& item,
                             unsigned char* shared) {
    const int warp = threadIdx.x / 32;
    const int lane = Recomputed(threadIdx.x % 32);
    const int unit_warp = warp / kColumnWarps;
    const int column_begin = warp % kColumnWarps * kColumns;
    unsigned char* ring = shared + kQueryBytes + unit_warp * Unit::kSharedBytes;
    const bool keys_are_values = a.cache.kv_stride == 0;
    const auto position_of = [&](int32_t stage) {
      return stage * kStagePositions + unit_warp * kUnitPositions;
    };
    const int32_t first = item.kv_begin / kStagePositions;
    const int32_t last = (item.kv_end - 1) / kStagePositions;
    int32_t block = BlockOf(a, item, position_of(first));
    const auto copy = [&](int32_t stage, int slot) {
      CopyUnit<Kv, Unit, kUnitThreads, true>(a, item, block, position_of(stage),
                                             Recomputed(threadIdx.x % kUnitThreads),
                                             ring + slot * kStageBytes);
      CpAsyncCommit();
      block = BlockOf(a, item, position_of(stage + 1));
    };
    for (int i = 0; i < a.stages - 1; ++i) copy(first + i, i);
    StageQueries<T, Unit, kDim, kRows>(a, item, shared);
    PdlTrigger();
    __syncthreads();
    uint32_t queries[kKeepsQueries ? kDim / 16 : 1][4];
    if constexpr (kKeepsQueries) {
#pragma unroll
      for (int step = 0; step < kDim / 16; ++step) {
        WarpLoadQueries<kDim>(lane, shared, 0, step, queries[step]);
      }
    }
    RowState rows = StartRows(a, item, 0);
    float o[kTiles][4] = {};
    int slot = 0;
#pragma unroll 1
    for (int32_t stage = first; stage <= last; ++stage) {
      WaitForStage(a.stages);
      SyncUnit(unit_warp);
      copy(stage + a.stages - 1, slot == 0 ? a.stages - 1 : slot - 1);
      const unsigned char* unit = ring + slot * kStageBytes;
      slot = slot + 1 == a.stages ? 0 : slot + 1;
      const int32_t position = position_of(stage);
      if (!HoldsSome(item, position)) continue;
      float s[1][2][4] = {};
#pragma unroll
      for (int step = 0; step < kDim / 16; step += Unit::kKeySteps) {
        uint32_t keys[Unit::kKeySteps][2][2];
        Unit::WarpLoadKeys(lane, unit, step, keys);
#pragma unroll
        for (int i = 0; i < Unit::kKeySteps; ++i) {
          if constexpr (!kKeepsQueries)
            WarpLoadQueries<kDim>(lane, shared, 0, step + i, queries[0]);
          const auto& q = queries[kKeepsQueries ? step + i : 0];
          for (int n = 0; n < 2; ++n) WarpMma(T(), s[0][n], q, keys[i][n]);
        }
      }
      float alpha[2];
      WarpSoftmax<Unit, 1>(a, item, position, unit, rows, s, alpha);
      if (__any_sync(0xffffffff, alpha[0] != 1.0f || alpha[1] != 1.0f)) {
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          for (int i = 0; i < 4; ++i) o[n][i] *= alpha[i / 2];
        }
      }
      uint32_t p[4];
      PackProbabilities<Unit>(unit, s[0], p);
#pragma unroll
      for (int n = 0; n < kTiles; n += Unit::kValueTiles) {
        uint32_t values[Unit::kValueTiles][2];
        Unit::WarpLoadValues(lane, unit, keys_are_values, column_begin + n * 8, values);
#pragma unroll
        for (int i = 0; i < Unit::kValueTiles; ++i) {
          WarpMma(typename Unit::ValueType(), o[n + i], p, values[i]);
        }
      }
    }
    CpAsyncWait<0>();
    WarpAddSums(rows);
    __syncthreads();  // the ring is over
    Merge(a, item, rows, o, unit_warp, column_begin, shared + kQueryBytes);
  }

 private:
  static __device__ void SyncUnit(int unit_warp) {
    if constexpr (kColumnWarps == 1) {
      __syncwarp();
    } else {
      BarrierSync(1 + unit_warp, kUnitThreads);
    }
  }

  static __device__ void Merge(const AttentionParameters& a, const AttentionItem& item,
                               const RowState& rows, const float (&o)[kTiles][4], int unit_warp,
                               int column_begin, unsigned char* shared) {
    float* outputs = reinterpret_cast<float*>(shared);      // [kUnitWarps, kRows, kPitch]
    float* maxima = outputs + kUnitWarps * kRows * kPitch;  // [kUnitWarps, kRows]
    float* sums = maxima + kUnitWarps * kRows;              // [kUnitWarps, kRows]
    const int lane = threadIdx.x % 32;
    for (int half = 0; half < 2; ++half) {
      const int row = unit_warp * kRows + lane / 4 + 8 * half;
      if (column_begin == 0 && lane % 4 == 0) {
        maxima[row] = rows.maximum[half];
        sums[row] = rows.sum[half];
      }
      float* to = outputs + row * kPitch + column_begin;
      Unit::ForRuns(o, half, [to](int dim, const auto& run) { StoreRun(to + dim, run); });
    }
    __syncthreads();
#pragma unroll 1
    for (int r = threadIdx.x / 32; r < item.num_vectors; r += kAttentionThreads / 32) {
      float most = MinusInfinity();
      for (int w = 0; w < kUnitWarps; ++w) most = fmaxf(most, maxima[w * kRows + r]);
      const float base = most == MinusInfinity() ? 0.0f : most;
      float weights[kUnitWarps];
      float sum = 0.0f;
      for (int w = 0; w < kUnitWarps; ++w) {
        weights[w] = FastExp2(maxima[w * kRows + r] - base);
        sum = fmaf(weights[w], sums[w * kRows + r], sum);
      }
      const float log_sum = LogSum(base, sum);
      const VectorResult<T> result(a, item, r, sum, log_sum);
      if (lane == 0) result.StoreLogSum(a, log_sum);
#pragma unroll 1
      for (int dim = 4 * lane; dim < a.head_dim; dim += 128) {
        float v[4] = {};
        for (int w = 0; w < kUnitWarps; ++w) {
          const float4 of_warp =
              *reinterpret_cast<const float4*>(outputs + (w * kRows + r) * kPitch + dim);
          v[0] = fmaf(weights[w], of_warp.x, v[0]);
          v[1] = fmaf(weights[w], of_warp.y, v[1]);
          v[2] = fmaf(weights[w], of_warp.z, v[2]);
          v[3] = fmaf(weights[w], of_warp.w, v[3]);
        }
        result.Store(dim, v);
      }
    }
  }
};

}  // namespace penstock::PENSTOCK_KERNELS
