#include "unit/emulator/planted.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

__device__ uint32_t Pair(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

__device__ uint32_t Four(const int8_t* p, int step) {
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    out |= static_cast<uint32_t>(static_cast<uint8_t>(p[i * step])) << 8 * i;
  }
  return out;
}

}  // namespace

/// a [16, 16], b [16, 8], d [16, 8]
__global__ void MultiplyHalves(const uint16_t* a, const uint16_t* b, float* d, bool bf16) {
  PdlWait();
  const int g = threadIdx.x / 4;
  const int t = threadIdx.x % 4 * 2;
  const auto of_a = [&](int row, int k) { return Pair(a[row * 16 + k], a[row * 16 + k + 1]); };
  const auto of_b = [&](int k) { return Pair(b[k * 8 + g], b[(k + 1) * 8 + g]); };
  const uint32_t ra[4] = {of_a(g, t), of_a(g + 8, t), of_a(g, t + 8), of_a(g + 8, t + 8)};
  const uint32_t rb[2] = {of_b(t), of_b(t + 8)};
  float rd[4] = {d[g * 8 + t], d[g * 8 + t + 1], d[(g + 8) * 8 + t], d[(g + 8) * 8 + t + 1]};
  if (bf16) {
    WarpMma(__nv_bfloat16(), rd, ra, rb);
  } else {
    WarpMma(__half(), rd, ra, rb);
  }
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + t + i % 2] = rd[i];
}

/// a [16, 32], b [32, 8], d [16, 8]
__global__ void MultiplyBytes(const int8_t* a, const int8_t* b, int32_t* d) {
  PdlWait();
  const int g = threadIdx.x / 4;
  const int t = threadIdx.x % 4;
  const auto of_a = [&](int row, int k) { return Four(a + row * 32 + k, 1); };
  const auto of_b = [&](int k) { return Four(b + k * 8 + g, 8); };
  const uint32_t ra[4] = {of_a(g, 4 * t), of_a(g + 8, 4 * t), of_a(g, 4 * t + 16),
                          of_a(g + 8, 4 * t + 16)};
  const uint32_t rb[2] = {of_b(4 * t), of_b(4 * t + 16)};
  int32_t rd[4];
  for (int i = 0; i < 4; ++i) rd[i] = d[(g + i / 2 * 8) * 8 + t * 2 + i % 2];
  WarpMma(int8_t(), rd, ra, rb);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = rd[i];
}

namespace {

template <int kCount>
__device__ void LoadMatricesOf(const uint16_t* row, uint32_t* to, bool transposed) {
  uint32_t registers[kCount];
  if (transposed) {
    WarpLoadTransposed(registers, row);
  } else {
    WarpLoadMatrices(registers, row);
  }
  for (int i = 0; i < kCount; ++i) to[threadIdx.x * kCount + i] = registers[i];
}

}  // namespace

/// from [count, 8, 8], to [32, count]
__global__ void LoadsMatrices(const uint16_t* from, uint32_t* to, int count, bool transposed) {
  PdlWait();
  SHARED_ARRAY(uint16_t, matrices, 4 * 64);
  for (int i = threadIdx.x; i < count * 64; i += 32) matrices[i] = from[i];
  __syncwarp();
  const uint16_t* row = matrices + threadIdx.x % (8 * count) * 8;
  if (count == 1) LoadMatricesOf<1>(row, to, transposed);
  if (count == 2) LoadMatricesOf<2>(row, to, transposed);
  if (count == 4) LoadMatricesOf<4>(row, to, transposed);
}

/// to [4, 32]
__global__ void Shuffles(const float* from, float* to, int by, int width) {
  PdlWait();
  const float v = from[threadIdx.x];
  to[threadIdx.x] = __shfl_sync(0xffffffff, v, by, width);
  to[32 + threadIdx.x] = __shfl_xor_sync(0xffffffff, v, by, width);
  to[64 + threadIdx.x] = __shfl_down_sync(0xffffffff, v, by, width);
  to[96 + threadIdx.x] = __shfl_up_sync(0xffffffff, v, by, width);
}

/// to [2, 32]
__global__ void Votes(uint32_t* to, uint32_t wanted, uint32_t some) {
  PdlWait();
  const bool mine = (wanted >> threadIdx.x & 1) != 0;
  to[threadIdx.x] = __ballot_sync(0xffffffff, mine);
  uint32_t both = 4;
  if ((some >> threadIdx.x & 1) != 0) {
    both = (__any_sync(some, mine) ? 1 : 0) + (__all_sync(some, mine) ? 2 : 0);
  }
  to[32 + threadIdx.x] = both;
}

__global__ void Counts(int32_t* count) {
  PdlWait();
  atomicAdd(count, 1);
  atomicMax(count + 1, static_cast<int32_t>(blockIdx.x * 96 + threadIdx.x));
}

/// Warps 0 and 1 fill a buffer, 2 and 3 read it in reverse, five times: two named barriers.
__global__ void Pipelines(int32_t* out) {
  PdlWait();
  SHARED_ARRAY(int32_t, buffer, 64);
  const int i = threadIdx.x % 64;
  int32_t sum = 0;
  for (int step = 0; step < 5; ++step) {
    if (threadIdx.x < 64) {
      if (step > 0) BarrierSync(2, 128);
      buffer[i] = (step + 1) * i;
      BarrierArrive(1, 128);
    } else {
      BarrierSync(1, 128);
      sum += buffer[63 - i];
      if (step < 4) BarrierArrive(2, 128);
    }
  }
  if (threadIdx.x >= 64) out[i] = sum;
}

/// to[b] = the sum of 256 of `from`
__global__ void SumsBlocks(const float* from, float* to) {
  PdlWait();
  SHARED_ARRAY(float, warps, 8);
  float v = from[blockIdx.x * 256 + threadIdx.x];
  for (int bit = 16; bit > 0; bit /= 2) v += __shfl_xor_sync(0xffffffff, v, bit);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int w = 0; w < 8; ++w) sum += warps[w];
    to[blockIdx.x] = sum;
  }
}

__global__ void LastBlockSums(int32_t* partial, int32_t* arrived, int32_t* out) {
  PdlWait();
  if (threadIdx.x != 0) return;
  partial[blockIdx.x] = static_cast<int32_t>(blockIdx.x) + 1;
  __threadfence();
  if (atomicAdd(arrived, 1) != static_cast<int32_t>(gridDim.x) - 1) return;
  __threadfence();
  int32_t sum = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += partial[b];
  *out = sum;
}

}  // namespace penstock::PENSTOCK_KERNELS
