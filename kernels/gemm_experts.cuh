// The products of experts with their visitors: K3's steps and formats, over blocks of an expert's
// visits. A CTA takes every so many tiles whole, so a visit's sum has one order, whoever else comes.
// Owns nothing. Must not know how visits are listed.
// Threads: as gemm_skinny.cuh.
#pragma once

#include "kernels/experts.h"
#include "kernels/gemm_skinny.cuh"

namespace penstock::PENSTOCK_KERNELS {

/// Rows of x, or of y, of a block of visits.
struct VisitRows {
  const int32_t* order;
  int32_t begin;
  int32_t end;
  int32_t slots;
  __device__ int32_t operator()(int i) const {
    return begin + i < end ? order[begin + i] / slots : -1;
  }
};

/// A step of a tile of a block; unit u is tile u / blocks of block u % blocks, so that CTAs that work
/// at once read different weights of all experts.
struct VisitCursor {
  int32_t unit;
  int32_t step = 0;
  int32_t tile = 0;
  int32_t expert = 0;
  int32_t begin = 0;
  int32_t end = 0;

  __device__ void Find(const ExpertList& list, int32_t blocks, int32_t units) {
    if (unit >= units) return;
    tile = unit / blocks;
    const int32_t* block = list.blocks + 3 * (unit % blocks);
    expert = block[0];
    begin = block[1];
    end = block[2];
  }
  __device__ void Advance(const ExpertGemmArgs& a, int32_t steps, int32_t blocks, int32_t units) {
    if (++step < steps) return;
    step = 0;
    unit += gridDim.x;
    Find(a.list, blocks, units);
  }
};

template <class Format>
__global__ void __launch_bounds__(kGemmThreads, 2)
    ExpertsKernel(ExpertGemmArgs a, int32_t steps, int32_t tiles) {
  constexpr int kStages = Format::kStages;
  static_assert(kStages * Format::kStageBytes <= kLeastSharedBytes);
  PdlTrigger();
  PdlWait();  // who visits whom decides which weights are read
  auto* ring = static_cast<unsigned char*>(DynamicShared());
  const int32_t blocks = *a.list.num_blocks;
  const int32_t units = blocks * tiles;
  const auto first = static_cast<int32_t>(blockIdx.x);
  if (first >= units) return;
  const auto of_grid = static_cast<int32_t>(gridDim.x);
  const int32_t count = (units - first + of_grid - 1) / of_grid * steps;
  const auto stage = [&](int32_t i) { return ring + i % kStages * Format::kStageBytes; };
  VisitCursor now{first};
  now.Find(a.list, blocks, units);
  VisitCursor next = now;
  const auto copy = [&](int32_t i) {
    if (i < count) {
      Format::CopyWeights(a.gemm, a.weights[next.expert], steps, stage(i), next.tile, next.step);
      const VisitRows rows{a.list.order, next.begin, next.end, a.x_slots};
      Format::CopyInputs(a.gemm, rows, stage(i), next.step);
      next.Advance(a, steps, blocks, units);
    }
    CpAsyncCommit();
  };
  for (int32_t i = 0; i < kStages - 1; ++i) copy(i);
  typename Format::Sums sums{};
  for (int32_t i = 0; i < count; ++i) {
    CpAsyncWait<kStages - 2>();
    __syncthreads();
    copy(i + kStages - 1);  // to where the step before this one was
    Format::Multiply(a.gemm, stage(i), sums);
    if (now.step + 1 == steps) {
      GemmArgs of = a.gemm;
      if (a.w_scales != nullptr) of.w_scales = a.w_scales[now.expert];
      if (a.bias != nullptr) of.bias = a.bias[now.expert];
      __syncthreads();
      StoreTile<Format::kStageBytes>(of, VisitRows{a.list.order, now.begin, now.end, a.x_slots},
                                     VisitRows{a.list.order, now.begin, now.end, 1},
                                     now.tile * kTileRows, sums.sums, stage(i));
      sums = {};
    }
    now.Advance(a, steps, blocks, units);
  }
  CpAsyncWait<0>();
}

/// Formats<columns> is for blocks of 8 times that many visits.
template <template <int> class Formats>
cudaError_t LaunchExperts(const ExpertGemmArgs& a, int32_t steps, cudaStream_t stream) {
  if (!IsSound(a.gemm)) return cudaErrorInvalidValue;
  const int32_t tiles = (a.gemm.n + kTileRows - 1) / kTileRows;
  const auto launch = [&]<class Format>(const Format*) {
    return Launch({"experts", dim3(a.ctas), dim3(kGemmThreads),
                   Format::kStages * Format::kStageBytes, stream},
                  ExpertsKernel<Format>, a, steps, tiles);
  };
  switch (a.block_rows) {
    case 8:
      return launch(static_cast<Formats<1>*>(nullptr));
    case 16:
      return launch(static_cast<Formats<2>*>(nullptr));
    case 32:
      return launch(static_cast<Formats<4>*>(nullptr));
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace penstock::PENSTOCK_KERNELS
