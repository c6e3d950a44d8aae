#include "benchmarks/gpu/ceilings.h"
#include "kernels/launch.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kReadThreads = 512;
constexpr int kAtOnce = 8;  // loads in flight of a thread

__global__ void __launch_bounds__(kReadThreads)
    ReadKernel(const uint4* data, int64_t count, uint32_t* out) {
  PdlWait();
  uint32_t all = 0;
  const int64_t stride = int64_t{gridDim.x} * kReadThreads;
  int64_t i = int64_t{blockIdx.x} * kReadThreads + threadIdx.x;
  for (; i + (kAtOnce - 1) * stride < count; i += kAtOnce * stride) {
    uint4 v[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) v[j] = data[i + j * stride];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) all ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < count; i += stride) {
    const uint4 v = data[i];
    all ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (all == 0x9e3779b9u) *out = all;  // not of what is read here
}

/// Multiplies registers; T decides what the bits mean and what sums are.
template <class T, class Sum>
__global__ void __launch_bounds__(kProductThreads) ProductsKernel(int32_t steps, float* out) {
  PdlWait();
  Sum sums[kProductsPerStep][4] = {};
  uint32_t a[4];
  uint32_t b[2];
  for (int i = 0; i < 4; ++i) a[i] = 0x01010101u * (threadIdx.x % 3 + 1 + i);
  for (int i = 0; i < 2; ++i) b[i] = 0x01010101u * (threadIdx.x % 5 + 1 + i);
  for (int32_t s = 0; s < steps; ++s) {
#pragma unroll
    for (int j = 0; j < kProductsPerStep; ++j) WarpMma(T(), sums[j], a, b);
  }
  float total = 0.0f;
  for (int j = 0; j < kProductsPerStep; ++j) {
    for (int i = 0; i < 4; ++i) total += static_cast<float>(sums[j][i]);
  }
  out[blockIdx.x * kProductThreads + threadIdx.x] = total;
}

__global__ void NothingKernel() {
  PdlTrigger();
  PdlWait();
}

}  // namespace

cudaError_t LaunchReadAll(const void* data, size_t bytes, int32_t ctas, uint32_t* out,
                          cudaStream_t stream) {
  return Launch({"read_all", dim3(ctas), dim3(kReadThreads), 0, stream}, ReadKernel,
                static_cast<const uint4*>(data), static_cast<int64_t>(bytes / sizeof(uint4)), out);
}

cudaError_t LaunchProducts(int32_t ctas, int32_t steps, bool integers, float* out,
                           cudaStream_t stream) {
  const KernelShape shape{"products", dim3(ctas), dim3(kProductThreads), 0, stream};
  return integers ? Launch(shape, ProductsKernel<int8_t, int32_t>, steps, out)
                  : Launch(shape, ProductsKernel<__nv_bfloat16, float>, steps, out);
}

cudaError_t LaunchNothing([[maybe_unused]] bool early, cudaStream_t stream) {
#if defined(PENSTOCK_EMULATE)
  return Launch({"nothing", dim3(1), dim3(32), 0, stream}, NothingKernel);
#else
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(32);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  return cudaLaunchKernelEx(&config, NothingKernel);
#endif
}

}  // namespace penstock::PENSTOCK_KERNELS
