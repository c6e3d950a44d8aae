// Small kernels that do one thing as fast as a GPU can: what others are compared with.
// Owns nothing; pointers are device memory. Must not know the kernels of the server.
// Threads: as CUDA streams.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

/// Reads `bytes`, a multiple of 16, once; `out` is one word that is never written.
cudaError_t LaunchReadAll(const void* data, size_t bytes, int32_t ctas, uint32_t* out,
                          cudaStream_t stream);

constexpr int64_t kProductsPerStep = 8;  // mma.m16n8k16 of a warp
constexpr int32_t kProductThreads = 256;
/// `ctas` CTAs, each of whose warps multiplies kProductsPerStep * steps times; out [ctas *
/// kProductThreads].
cudaError_t LaunchProducts(int32_t ctas, int32_t steps, bool integers, float* out,
                           cudaStream_t stream);

/// Nothing, in one CTA; `early`: may begin before the kernel before it has ended.
cudaError_t LaunchNothing(bool early, cudaStream_t stream);

}  // namespace penstock::PENSTOCK_KERNELS
