// The product of a linear layer for few rows of x: rows of w are the 16 rows of an mma, rows of x its
// 8 columns. A CTA walks a run of steps, tile after tile, with the next steps' copies in flight; a
// tile that several CTAs share is summed in their order by the last of them.
// Owns nothing. Must not know how weights of a format become fragments.
// Threads: device code of kGemmThreads threads; each warp has 16 rows of the tile.
#pragma once

#include "kernels/gemm.h"
#include "kernels/launch.cuh"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kGemmWarps = kGemmThreads / 32;
constexpr int kChunks = kStepBytes / kRowAlign;  // of a row in a tile

/// Where chunk `chunk` of row `row` of a tile lies: rows of eight chunks, in an order that keeps
/// eight rows' reads of one column apart.
__device__ inline int ChunkAt(int row, int chunk) {
  return (row * kChunks + (chunk ^ (row & (kChunks - 1)))) * kRowAlign;
}

/// Which rows of a matrix a tile holds: from `first` on.
struct RowRun {
  int32_t first;
  int32_t end;
  __device__ int32_t operator()(int i) const { return first + i < end ? first + i : -1; }
};

/// kRows rows of a matrix, those that `rows` names (-1: none), columns from byte `begin` on, into a
/// tile; what is not there is zero.
template <int kRows, class Rows>
__device__ void CopyTile(void* tile, const void* matrix, int64_t stride_bytes, const Rows& rows,
                         int64_t begin, int64_t row_bytes) {
  for (int i = threadIdx.x; i < kRows * kChunks; i += kGemmThreads) {
    const int chunk = i % kChunks;
    const int32_t row = rows(i / kChunks);
    const int64_t at = begin + chunk * kRowAlign;
    const bool exists = row >= 0 && at < row_bytes;
    const int64_t left = row_bytes - at;
    const int valid = !exists ? 0 : left < kRowAlign ? static_cast<int>(left) : kRowAlign;
    const auto* base = static_cast<const unsigned char*>(matrix);
    CpAsync16(static_cast<unsigned char*>(tile) + ChunkAt(i / kChunks, chunk),
              exists ? base + row * stride_bytes + at : base, valid);
  }
}

/// Part `part` of a tile's columns, 32 bytes of each row, as fragments: of the warp's rows of w ...
__device__ inline void LoadWeights(uint32_t (&a)[4], const unsigned char* tile, int part) {
  const int lane = threadIdx.x % 32;
  const int row = threadIdx.x / 32 * 16 + lane % 16;
  WarpLoadMatrices(a, tile + ChunkAt(row, 2 * part + lane / 16));
}
/// ... and of x.
template <int kColumns>
__device__ void LoadInputs(uint32_t (&b)[kColumns][2], const unsigned char* tile, int part) {
  const int lane = threadIdx.x % 32;
  const int chunk = 2 * part + lane / 8 % 2;
  if constexpr (kColumns == 1) {
    WarpLoadMatrices(b[0], tile + ChunkAt(lane % 8, chunk));
  } else {
#pragma unroll
    for (int j = 0; j < kColumns; j += 2) {
      uint32_t two[4];
      WarpLoadMatrices(two, tile + ChunkAt(8 * j + lane / 16 * 8 + lane % 8, chunk));
      b[j][0] = two[0];
      b[j][1] = two[1];
      b[j + 1][0] = two[2];
      b[j + 1][1] = two[3];
    }
  }
}

__device__ inline float SumOf(const GemmArgs& a, float sum, int32_t, int32_t n) {
  return a.w_scales == nullptr ? sum : __fmul_rn(sum, a.w_scales[n]);
}
__device__ inline float SumOf(const GemmArgs& a, int32_t sum, int32_t x_row, int32_t n) {
  return __fmul_rn(__fmul_rn(static_cast<float>(sum), a.x_scales[x_row]), a.w_scales[n]);
}

/// What a sum becomes before it is added or stored.
__device__ inline float Finished(const GemmArgs& a, float v, int32_t n) {
  if (a.bias != nullptr) v = __fadd_rn(v, a.bias[n]);
  if (a.scale != 1.0f || a.soft_cap != 0.0f) v = __fmul_rn(v, a.scale);
  if (a.soft_cap != 0.0f) {
    const float in = __fdiv_rn(v, a.soft_cap);
    v = __fmul_rn(a.soft_cap, __fmaf_rn(2.0f, Sigmoid(__fadd_rn(in, in)), -1.0f));
  }
  return v;
}

/// Adds a finished sum to y, or stores it.
template <class Sum>
__device__ void StoreSum(const GemmArgs& a, int32_t x_row, int32_t y_row, int32_t n, Sum sum) {
  const int64_t at = y_row * a.y_stride + n;
  if (a.keep_sums) {
    static_cast<int32_t*>(a.y)[at] = static_cast<int32_t>(sum);
    return;
  }
  const auto store = [&](auto* y) {
    float v = Finished(a, SumOf(a, sum, x_row, n), n);
    if (a.accumulate) v = __fadd_rn(v, ToFloat(*y));
    *y = FromFloat<std::remove_pointer_t<decltype(y)>>(v);
  };
  if (a.y_element == Element::kBFloat16) {
    store(static_cast<__nv_bfloat16*>(a.y) + at);
  } else if (a.y_element == Element::kFloat16) {
    store(static_cast<__half*>(a.y) + at);
  } else {
    store(static_cast<float*>(a.y) + at);
  }
}

/// Stores a tile's columns of y from `n0` on in the rows of y that `y_rows` names, by way of `free`,
/// shared memory that nobody reads any more: 16 neighbouring columns are written together.
template <int kBytes, int kColumns, class Sum, class XRows, class YRows>
__device__ __forceinline__ void StoreTile(const GemmArgs& a, const XRows& x_rows,
                                          const YRows& y_rows, int32_t n0,
                                          const Sum (&sums)[kColumns][4], unsigned char* free) {
  constexpr int kRow = 20;  // of 16 sums: what four lanes write lies in different banks
  constexpr int kOfColumn = 8 * kRow;
  constexpr int kRoom = kBytes / (kGemmWarps * kOfColumn * static_cast<int>(sizeof(Sum)));
  constexpr int kAtOnce = kRoom < kColumns ? kRoom : kColumns;
  static_assert(kAtOnce > 0);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  Sum* slab = reinterpret_cast<Sum*>(free) + warp * kAtOnce * kOfColumn;
#pragma unroll
  for (int first = 0; first < kColumns; first += kAtOnce) {
    constexpr int kOdd = kColumns % kAtOnce;
    const int columns = kOdd != 0 && first + kAtOnce > kColumns ? kOdd : kAtOnce;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < columns; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        slab[(8 * j + lane % 4 * 2 + i % 2) * kRow + lane / 4 + i / 2 * 8] = sums[first + j][i];
      }
    }
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < columns * 8 * 16; i += 32) {
      const int32_t n = n0 + 16 * warp + i % 16;
      const int32_t y_row = y_rows(8 * first + i / 16);
      if (n >= a.n || y_row < 0) continue;
      StoreSum(a, x_rows(8 * first + i / 16), y_row, n, slab[i / 16 * kRow + i % 16]);
    }
  }
}

__device__ inline float4 Packed(const float (&v)[4]) { return make_float4(v[0], v[1], v[2], v[3]); }
__device__ inline int4 Packed(const int32_t (&v)[4]) { return make_int4(v[0], v[1], v[2], v[3]); }

/// The part of a tile that a CTA has summed, in its place among the others' parts. `from_begin`: of
/// the tile.
template <class Sum>
__device__ auto PartOf(const GemmArgs& a, const GemmSplit& split, int32_t cta, bool from_begin) {
  using Four = decltype(Packed(static_cast<const Sum(*)[4]>(nullptr)[0]));
  const int64_t part = (int64_t{blockIdx.y} * split.ctas + cta) * 2 + (from_begin ? 1 : 0);
  return static_cast<Four*>(a.work.partials) + part * (kTileRows * kGemmRows / 4) + threadIdx.x;
}

/// Adds up the parts of a shared tile in the last CTA that brings one; false in the others. Leaves the
/// tile's counter as it found it.
template <int kColumns, class Sum>
__device__ __forceinline__ bool SumParts(const GemmArgs& a, const GemmSplit& split, int32_t tile,
                                         bool from_begin, Sum (&sums)[kColumns][4]) {
  const int64_t first = int64_t{tile} * split.steps;
  auto* part = PartOf<Sum>(a, split, blockIdx.x, from_begin);
#pragma unroll
  for (int j = 0; j < kColumns; ++j) part[j * kGemmThreads] = Packed(sums[j]);
  __threadfence();
  __syncthreads();
  SHARED_ARRAY(int32_t, others, 1);
  int32_t* arrived = a.work.arrived + blockIdx.y * split.tiles + tile;
  const int32_t first_cta = split.owner(first);
  const int32_t last_cta = split.owner(first + split.steps - 1);
  if (threadIdx.x == 0) {
    *others = atomicAdd(arrived, 1);
    if (*others == last_cta - first_cta) *arrived = 0;
  }
  __syncthreads();
  const bool is_last = *others == last_cta - first_cta;
  __syncthreads();
  if (!is_last) return false;
  __threadfence();
  for (int32_t cta = first_cta; cta <= last_cta; ++cta) {
    const auto* from = PartOf<Sum>(a, split, cta, split.begin(cta) <= first);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const auto four = LoadOfOthers(from + j * kGemmThreads);
      sums[j][0] = cta == first_cta ? four.x : sums[j][0] + four.x;
      sums[j][1] = cta == first_cta ? four.y : sums[j][1] + four.y;
      sums[j][2] = cta == first_cta ? four.z : sums[j][2] + four.z;
      sums[j][3] = cta == first_cta ? four.w : sums[j][3] + four.w;
    }
  }
  return true;
}

/// A step of a tile; one after the other without a division.
struct Cursor {
  int32_t tile;
  int32_t step;
  __device__ void Advance(int32_t steps) {
    if (++step < steps) return;
    step = 0;
    ++tile;
  }
};

/// Walks the CTA's run of steps. A format says how a step is copied, weights apart from inputs, since
/// these are there only after PdlWait, and how it is multiplied.
template <class Format>
__device__ void WalkSteps(const GemmArgs& a, const GemmSplit& split, int32_t token0) {
  constexpr int kStages = Format::kStages;
  auto* ring = static_cast<unsigned char*>(DynamicShared());
  const int64_t begin = split.begin(blockIdx.x);
  const auto count = static_cast<int32_t>(split.begin(blockIdx.x + 1) - begin);
  const auto stage = [&](int32_t i) { return ring + i % kStages * Format::kStageBytes; };
  Cursor now{static_cast<int32_t>(begin / split.steps), static_cast<int32_t>(begin % split.steps)};
  Cursor weights = now;
  Cursor inputs = now;
  const RowRun rows{token0, a.m};
  const auto copy_weights = [&](int32_t i) {
    if (i >= count) return;
    Format::CopyWeights(a, a.w, split.steps, stage(i), weights.tile, weights.step);
    weights.Advance(split.steps);
  };
  const auto copy_inputs = [&](int32_t i) {
    if (i < count) {
      Format::CopyInputs(a, rows, stage(i), inputs.step);
      inputs.Advance(split.steps);
    }
    CpAsyncCommit();
  };
  for (int32_t i = 0; i < kStages - 1; ++i) copy_weights(i);
  PdlTrigger();
  PdlWait();
  for (int32_t i = 0; i < kStages - 1; ++i) copy_inputs(i);
  typename Format::Sums sums{};
  int32_t summed = 0;  // steps of the tile
  for (int32_t i = 0; i < count; ++i) {
    CpAsyncWait<kStages - 2>();
    __syncthreads();
    copy_weights(i + kStages - 1);  // to where the step before this one was
    copy_inputs(i + kStages - 1);
    Format::Multiply(a, stage(i), sums);
    ++summed;
    const int32_t tile = now.tile;
    now.Advance(split.steps);
    if (now.step != 0 && i + 1 < count) continue;
    const bool whole = summed == split.steps;
    const bool from_begin = whole || now.step == summed;
    if (whole || SumParts(a, split, tile, from_begin, sums.sums)) {
      __syncthreads();
      StoreTile<Format::kStageBytes>(a, rows, rows, tile * kTileRows, sums.sums, stage(i));
    }
    sums = {};
    summed = 0;
  }
  CpAsyncWait<0>();
}

template <class Format>
__global__ void __launch_bounds__(kGemmThreads, 2)
    SkinnyKernel(GemmArgs a, GemmSplit split, int32_t token0, int32_t rows) {
  static_assert(Format::kStages * Format::kStageBytes <= kLeastSharedBytes);
  WalkSteps<Format>(a, split, token0 + static_cast<int32_t>(blockIdx.y) * rows);
}

/// Whether copies of 16 bytes can read x, and sums of integers are kept of integers.
inline bool IsSound(const GemmArgs& a) {
  const int64_t size = a.element == Element::kInt8 ? 1 : 2;
  return reinterpret_cast<uintptr_t>(a.x) % kRowAlign == 0 && a.x_stride * size % kRowAlign == 0 &&
         a.x_stride >= a.k && (!a.keep_sums || a.element == Element::kInt8);
}

/// A kernel for every kGemmBlocksAtOnce blocks of at most 8 kMost rows. Formats<columns> is for 8
/// times that many rows of x.
template <template <int> class Formats, int kMost = kGemmRows / 8>
cudaError_t LaunchSkinny(const char* name, const GemmArgs& a, const GemmSplit& split,
                         cudaStream_t stream) {
  constexpr int32_t kRows = 8 * kMost;
  if (!IsSound(a)) return cudaErrorInvalidValue;
  for (int32_t token = 0; token < a.m; token += kRows * kGemmBlocksAtOnce) {
    const int32_t rows = std::min(a.m - token, kRows * kGemmBlocksAtOnce);
    const auto launch = [&]<class Format>(const Format*) {
      const dim3 grid(split.ctas, (rows + kRows - 1) / kRows);
      return Launch({name, grid, dim3(kGemmThreads), Format::kStages * Format::kStageBytes, stream},
                    SkinnyKernel<Format>, a, split, token, kRows);
    };
    const cudaError_t error = rows <= 8    ? launch(static_cast<Formats<1>*>(nullptr))
                              : rows <= 16 ? launch(static_cast<Formats<2>*>(nullptr))
                              : rows <= 32 ? launch(static_cast<Formats<4>*>(nullptr))
                                           : launch(static_cast<Formats<kMost>*>(nullptr));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

/// Weights in plain rows, whose steps are kStepBytes of each row.
template <class T, int kColumns>
struct PlainRows {
  using Sum = std::conditional_t<std::is_same_v<T, int8_t>, int32_t, float>;
  struct Sums {
    Sum sums[kColumns][4];
  };
  static constexpr int kWeightBytes = kTileRows * kStepBytes;
  static constexpr int kStageBytes = kWeightBytes + 8 * kColumns * kStepBytes;
  static constexpr int kStages = kColumns <= 2 ? 5 : 4;  // all fit 99 KB

  static __device__ void CopyWeights(const GemmArgs& a, const void* w, int32_t,
                                     unsigned char* stage, int32_t tile, int32_t step) {
    constexpr int kSize = sizeof(T);
    CopyTile<kTileRows>(stage, w, PlainRowBytes(a.k, kSize), RowRun{tile * kTileRows, a.n},
                        int64_t{step} * kStepBytes, int64_t{a.k} * kSize);
  }
  template <class Rows>
  static __device__ void CopyInputs(const GemmArgs& a, const Rows& rows, unsigned char* stage,
                                    int32_t step) {
    constexpr int kSize = sizeof(T);
    CopyTile<8 * kColumns>(stage + kWeightBytes, a.x, a.x_stride * kSize, rows,
                           int64_t{step} * kStepBytes, int64_t{a.k} * kSize);
  }
  static __device__ void Multiply(const GemmArgs&, const unsigned char* stage, Sums& s) {
    for (int part = 0; part < kStepBytes / 32; ++part) {
      uint32_t weights[4];
      uint32_t inputs[kColumns][2];
      LoadWeights(weights, stage, part);
      LoadInputs(inputs, stage + kWeightBytes, part);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) WarpMma(T(), s.sums[j], weights, inputs[j]);
    }
  }
};

template <class T>
GemmSplit SplitOfRows(const GemmArgs& a) {
  const int64_t bytes = int64_t{a.k} * sizeof(T);
  return SplitGemm(a.n, static_cast<int32_t>((bytes + kStepBytes - 1) / kStepBytes),
                   a.work.at_once);
}

}  // namespace penstock::PENSTOCK_KERNELS
