// What a product of panels reads before it needs it. Included by the kernels_*.cc only (through
// gemm_kernel.h).
// Owns nothing. Must not know formats.
// Threads: any.
#pragma once

#include <cstdint>

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

/// Tiles for m rows of at most `most` each: not fewer than take all lines of the next units.
inline int64_t NumTiles(int64_t m, int64_t most, int64_t unit_lines) {
  const int64_t fewest = (m + most - 1) / most;
  return m >= unit_lines && fewest < unit_lines ? unit_lines : fewest;
}

}  // namespace
}  // namespace penstock
