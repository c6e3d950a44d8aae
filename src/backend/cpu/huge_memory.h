// Memory in pages of 2 MiB: a token reads all weights, and of small pages that takes half as long
// again.
// An arena shares its chunks with the buffers in them. Must not know what lies in it.
// Threads: an arena is confined to one thread; buffers are given back on any.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "penstock/backend.h"

namespace penstock {

/// Zeroed, and where `bytes` are many, on a multiple of 2 MiB. A kernel without huge pages gives
/// small ones, which changes only the speed.
absl::StatusOr<DeviceBuffer> MapMemory(size_t bytes);
/// Bytes of buffers that this process holds.
int64_t HeldHostBytes();

/// Buffers side by side, so that small ones too lie in huge pages. What is given back returns to the
/// system with the last buffer of its chunk: for what comes and goes together.
class WeightArena {
 public:
  WeightArena() = default;
  ~WeightArena();
  WeightArena(const WeightArena&) = delete;
  WeightArena& operator=(const WeightArena&) = delete;

  /// Zeroed, on a multiple of 64 bytes.
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes);

 private:
  struct Chunk;
  static void LetGo(Chunk* chunk);

  Chunk* chunk_ = nullptr;  // the arena holds it as a buffer does
  size_t used_ = 0;         // of it
};

}  // namespace penstock
