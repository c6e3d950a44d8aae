// The tests' kernels. planted.cu: with one fault each, or one for some arguments; "line: name" marks
// where it shows. correct.cu and together.cu: with none.
// Owns nothing. Must not know what the emulator says of them.
// Threads: kernels.
#pragma once

#include "kernels/peer_reduce.h"
#include "kernels/ptx.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kThreads = 128;

__global__ void Rotate(const float* in, float* out, bool sync);
__global__ void Reuse(const float* in, float* out);
__global__ void LaneToLane(const float* in, float* out, bool sync);
__global__ void Consume(const float* from, float* to, bool waits);
__global__ void WritesBeforeTheWait(float* out);
__global__ void NeverWaits();
__global__ void Stages(const float* in, float* out, bool wrong);
__global__ void EndsWithACopyInFlight(const float* in);
__global__ void ReadsGlobal(const float* in, float* out, int64_t index);
__global__ void WritesGlobal(float* out, int64_t index);
__global__ void IndexesShared(float* out, int index);
__global__ void IndexesDynamicShared(float* out, int index);
__global__ void LoadsVectors(const float* in, float* out);
__global__ void CopiesMisaligned(const float* in);
__global__ void LoadsMatrixMisaligned();
__global__ void DivergentBarriers();
__global__ void BarrierOfSome();
__global__ void DivergentShuffle(float* out);
__global__ void ShuffleAgainstBarrier();
__global__ void MaskWithoutOneself();
__global__ void BlocksMeetInMemory(float* out);
__global__ void ReadsWhatNobodyWrote(const float* in);
__global__ void TakesTooMuch();

/// The form of sums that waits in kernels, of `size` ranks side by side in one block: [steps, size]
/// one after the other, each rank at its own pace and a step's blocks in turn. Rank `absent` does not
/// come to the last.
constexpr int kRankThreads = 32;
__global__ void SumsOverRanks(const PeerReduceArgs* sums, int size, int steps, int blocks,
                              int absent);

__global__ void MultiplyHalves(const uint16_t* a, const uint16_t* b, float* d, bool bf16);
__global__ void MultiplyBytes(const int8_t* a, const int8_t* b, int32_t* d);
__global__ void LoadsMatrices(const uint16_t* from, uint32_t* to, int count, bool transposed);
__global__ void Shuffles(const float* from, float* to, int by, int width);
__global__ void Votes(uint32_t* to, uint32_t wanted, uint32_t some);
__global__ void Counts(int32_t* count);
__global__ void Pipelines(int32_t* out);
__global__ void SumsBlocks(const float* from, float* to);
__global__ void LastBlockSums(int32_t* partial, int32_t* arrived, int32_t* out);

}  // namespace penstock::PENSTOCK_KERNELS
