// How weights lie on a GPU: what the packer on the host writes and the kernels read.
// Owns nothing. Plain C++, so that g++ compiles it without the toolkit. Must not know models.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kTileRows = 128;   // of a weight, which eight warps of a CTA multiply at a time
constexpr int32_t kStepBytes = 128;  // of a row, in a step along k
constexpr int32_t kRowAlign = 16;    // bytes: what one copy instruction moves

/// Plain rows, of bfloat16, float16 or int8: each begins at a multiple of kRowAlign; what follows
/// the last column is not read.
PENSTOCK_EVERYWHERE constexpr int64_t PlainRowBytes(int64_t k, int32_t element_bytes) {
  return (k * element_bytes + kRowAlign - 1) / kRowAlign * kRowAlign;
}

}  // namespace penstock::PENSTOCK_KERNELS
