// Where in a rank's memory what ranks exchange lies: [2][piece] of its rows, [2][part of a piece] of
// sums, flags. Sums that follow each other use the halves in turn.
// Owns nothing. Must not know CUDA.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/peer_reduce.h"

namespace penstock::PENSTOCK_KERNELS {

/// More is added up in pieces of so much: 512 rows of width 2048.
constexpr int64_t kPeerPieceBytes = int64_t{4} << 20;

struct PeerMemory {
  size_t sums_begin = 0;
  size_t sum_bytes = 0;  // of one half
  size_t flags_begin = 0;
  size_t bytes = 0;
};

constexpr PeerMemory PeerMemoryOf(int32_t size) {
  PeerMemory m;
  m.sums_begin = 2 * kPeerPieceBytes;
  m.sum_bytes = static_cast<size_t>(ReducePart(kPeerPieceBytes / 4, size)) * 16;
  m.flags_begin = m.sums_begin + 2 * m.sum_bytes;
  m.bytes = m.flags_begin + kReduceFlags * sizeof(uint32_t);
  return m;
}

}  // namespace penstock::PENSTOCK_KERNELS
