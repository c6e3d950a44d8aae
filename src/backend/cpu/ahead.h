// What a product of panels reads before it needs it. Included by the kernels_*.cc only (through
// gemm_kernel.h).
// Owns nothing. Must not know formats.
// Threads: any.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels.h"

namespace penstock {
namespace {

constexpr int64_t kLineBytes = 64;

/// Asks for the part of a panel that is multiplied next, a line with each unit of the present one:
/// of the tiles of rows that share a part, the first ones take the next from memory together, while
/// they compute.
struct Ahead {
  const char* line;
  inline __attribute__((always_inline)) void Fetch(int64_t unit) const {
    __builtin_prefetch(line + unit * kLineBytes);
  }
  void Skip(int64_t units) { line += units * kLineBytes; }
};
struct NothingAhead {
  inline __attribute__((always_inline)) void Fetch(int64_t) const {}
  void Skip(int64_t) {}
};

/// Asks for the outputs of rows [row, row + rows), which will be written when the sums are whole.
inline void FetchOutputs(const GemmPanelArgs& a, int64_t row, int64_t rows) {
  const int64_t element = a.bf16 ? 2 : 4;
  for (int64_t r = row; r < row + rows; ++r) {
    const char* y = static_cast<const char*>(a.y) + r * a.y_stride * element;
    for (int64_t at = 0; at < a.n * element; at += kLineBytes) __builtin_prefetch(y + at, 1);
  }
}

/// Tiles for m rows of at most `most` each: not fewer than take all lines of the next units.
inline int64_t NumTiles(int64_t m, int64_t most, int64_t unit_lines) {
  const int64_t fewest = (m + most - 1) / most;
  return m >= unit_lines && fewest < unit_lines ? unit_lines : fewest;
}

}  // namespace
}  // namespace penstock
