// What the lanes of a warp compute together: shuffles, votes and the tensor cores' fragments, by the
// lane-to-element maps of the PTX manual.
// Owns nothing. Must not know kernels.
// Threads: called by the threads of a kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/emulator/emulator.h"

namespace penstock::emulator {

/// out = what lane `from` of the warp brought; bits of no number where it is not in the mask.
void Shuffle(const char* what, uint32_t mask, const void* value, void* out, size_t bytes, int from,
             Where where);
/// Bit l: what lane l of the mask brought.
uint32_t Ballot(const char* what, uint32_t mask, bool value, Where where);

/// `count` (1, 2, 4) 8x8 matrices of 16-bit elements: lane 8 i + r has the address of row r of
/// matrix i. Lane l gets elements (l / 4, 2 (l % 4) + (0, 1)) of each, or of its transpose.
void LoadMatrices(uint32_t* registers, const void* row, int count, bool transposed, Where where);

enum class MmaType : uint8_t { kBFloat16, kFloat16 };
/// d += a b, m16n8k16. With g = lane / 4 and t = lane % 4, each register two elements: a: (g, 2t),
/// (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8); b: (2t, g), (2t + 8, g); d: (g, 2t), (g, 2t + 1),
/// (g + 8, 2t), (g + 8, 2t + 1).
void Mma16816(MmaType type, float* d, const uint32_t* a, const uint32_t* b, Where where);
/// d += a b of int8, m16n8k32, each register four elements: a: (g, 4t), (g + 8, 4t), (g, 4t + 16),
/// (g + 8, 4t + 16); b: (4t, g), (4t + 16, g); d as above.
void Mma16832(int32_t* d, const uint32_t* a, const uint32_t* b, Where where);

}  // namespace penstock::emulator
