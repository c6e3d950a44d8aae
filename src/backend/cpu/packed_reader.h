// Reads a file of packed layers and checks every byte, on all threads. The layers stay mapped where
// the page cache has them in huge pages; else they are copied to the device's own.
// Owns the buffers. Must not know which layer is which.
// Threads: confined to the loading thread; hashes and copies on the pool.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/packed_file.h"
#include "backend/packed_device.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

struct StoredLayer {
  PackedLayer layer;
  DeviceBuffer weight;  // whole pages
  DeviceBuffer bias;
};

struct StoredLayers {
  std::vector<StoredLayer> layers;
  int64_t file_bytes = 0;
  bool mapped = false;
};

/// Errors as ReadPacked's. Memory is taken for what the file holds, not for what it says. The file
/// stays mapped where huge pages hold `least_huge` of it.
absl::StatusOr<StoredLayers> ReadStoredLayers(const PackedFile& file, CpuDevice& device,
                                              WorkerPool& pool, double least_huge = 0.5);

}  // namespace penstock
