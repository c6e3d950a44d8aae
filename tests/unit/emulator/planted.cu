#include "unit/emulator/planted.h"

namespace penstock::PENSTOCK_KERNELS {

/// out[i] = in[i + 1], round the block.
__global__ void Rotate(const float* in, float* out, bool sync) {
  PdlWait();
  SHARED_ARRAY(float, values, kThreads);
  values[threadIdx.x] = in[threadIdx.x];  // line: rotate writes
  if (sync) __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] =
      values[(threadIdx.x + 1) % kThreads];  // line: rotate reads
}

/// Correct but for the second use of the array.
__global__ void Reuse(const float* in, float* out) {
  PdlWait();
  SHARED_ARRAY(float, values, kThreads);
  values[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  const float next = values[(threadIdx.x + 40) % kThreads];
  values[threadIdx.x] = next;
  __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = values[threadIdx.x];
}

__global__ void LaneToLane(const float* in, float* out, bool sync) {
  PdlWait();
  SHARED_ARRAY(float, values, kThreads);
  values[threadIdx.x] = in[threadIdx.x];
  if (sync) __syncwarp();
  out[blockIdx.x * kThreads + threadIdx.x] = values[threadIdx.x ^ 1];
}

/// The next kernel's thread reads what another thread of this one's wrote.
__global__ void Consume(const float* from, float* to, bool waits) {
  if (waits) PdlWait();
  const float value = from[kThreads - 1 - threadIdx.x];  // line: consume
  PdlWait();
  to[blockIdx.x * kThreads + threadIdx.x] = value;
}

__global__ void WritesBeforeTheWait(float* out) {
  out[blockIdx.x * kThreads + threadIdx.x] = 1;  // line: early write
  PdlWait();
}

__global__ void NeverWaits() {}

/// Two stages by cp.async; waits until one or two groups are left before the first is read.
__global__ void Stages(const float* in, float* out, bool wrong) {
  PdlWait();
  SHARED_ARRAY(float, first, 4 * kThreads);
  SHARED_ARRAY(float, second, 4 * kThreads);
  const int i = 4 * threadIdx.x;
  CpAsync<16>(first + i, in + i);
  CpAsyncCommit();
  CpAsync16(second + i, in + 512 + i, threadIdx.x % 2 == 0 ? 16 : 8);
  CpAsyncCommit();
  if (wrong) {
    CpAsyncWait<2>();
  } else {
    CpAsyncWait<1>();
  }
  __syncthreads();
  const float one = first[(i + 4) % 512];  // line: stage
  CpAsyncWait<0>();
  __syncthreads();
  out[blockIdx.x * 512 + threadIdx.x] = one + second[(i + 3) % 512];
}

__global__ void EndsWithACopyInFlight(const float* in) {
  PdlWait();
  SHARED_ARRAY(float, values, 4 * kThreads);
  CpAsync<16>(values + 4 * threadIdx.x, in + 4 * threadIdx.x);  // line: abandoned
  CpAsyncCommit();
}

__global__ void ReadsGlobal(const float* in, float* out, int64_t index) {
  PdlWait();
  out[blockIdx.x * kThreads + threadIdx.x] = in[threadIdx.x == 5 ? index : 0];  // line: global read
}

__global__ void WritesGlobal(float* out, int64_t index) {
  PdlWait();
  if (threadIdx.x == 5 && blockIdx.x == 1) out[index] = 1;  // line: global write
}

__global__ void IndexesShared(float* out, int index) {
  PdlWait();
  SHARED_ARRAY(float, other, 8);
  SHARED_ARRAY(float, values, kThreads);
  values[threadIdx.x] = 2;
  if (threadIdx.x == 0) other[0] = 1;
  __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = values[index] + other[0];  // line: shared
}

__global__ void IndexesDynamicShared(float* out, int index) {
  PdlWait();
  auto* values = static_cast<float*>(DynamicShared());
  for (int i = threadIdx.x; i < 1024; i += kThreads) values[i] = 3;
  __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = values[index];
}

__global__ void LoadsVectors(const float* in, float* out) {
  PdlWait();
  const float4 v = *reinterpret_cast<const float4*>(in + 4 * threadIdx.x);  // line: vector
  *reinterpret_cast<float4*>(out + 4 * (threadIdx.x + blockIdx.x * kThreads)) =
      make_float4(v.w, v.z, v.y, v.x);
}

__global__ void CopiesMisaligned(const float* in) {
  PdlWait();
  SHARED_ARRAY(float, values, 4 * kThreads + 4);
  CpAsync<16>(values + 4 * threadIdx.x, in + 4 * threadIdx.x + 1);  // line: copy
  CpAsyncCommit();
  CpAsyncWait<0>();
}

__global__ void LoadsMatrixMisaligned() {
  PdlWait();
  SHARED_ARRAY(uint16_t, values, 1024);
  for (int i = threadIdx.x; i < 1024; i += kThreads) values[i] = 0;
  __syncthreads();
  uint32_t registers[1];
  const uint16_t* row = values + 8 * (threadIdx.x % 8) + threadIdx.x % 32 / 3 % 2 * 4;
  WarpLoadMatrices(registers, row);  // line: matrix
}

__global__ void DivergentBarriers() {
  PdlWait();
  if (threadIdx.x < 40) {
    __syncthreads();  // line: barrier of some
  } else {
    __syncthreads();  // line: barrier of others
  }
}

__global__ void BarrierOfSome() {
  PdlWait();
  if (threadIdx.x < 40) __syncthreads();  // line: lonely barrier
}

__global__ void DivergentShuffle(float* out) {
  PdlWait();
  float v = threadIdx.x;
  if (threadIdx.x % 32 < 16) v = __shfl_xor_sync(0xffffffff, v, 1);  // line: shuffle
  out[blockIdx.x * kThreads + threadIdx.x] = v;
}

__global__ void ShuffleAgainstBarrier() {
  PdlWait();
  if (threadIdx.x == 3) {
    __syncthreads();
  } else {
    __syncwarp();
    __syncthreads();
  }
}

__global__ void MaskWithoutOneself() {
  PdlWait();
  __syncwarp(0xfffffffe);
}

__global__ void BlocksMeetInMemory(float* out) {
  PdlWait();
  out[threadIdx.x] = blockIdx.x;
}

__global__ void ReadsWhatNobodyWrote(const float* in) {
  PdlWait();
  if (in[threadIdx.x] == 1) __syncwarp(0xffffffff);
}

__global__ void TakesTooMuch() {
  PdlWait();
  SHARED_ARRAY(float, values, 25 * 1024);
  values[threadIdx.x] = 0;
}

}  // namespace penstock::PENSTOCK_KERNELS
