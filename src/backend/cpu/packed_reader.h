// Reads a file of packed layers into a device's memory, on all threads, and checks every byte.
// Owns the buffers. Must not know which layer is which.
// Threads: confined to the loading thread; reads on the pool.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
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
};

/// Errors as ReadPacked's. Memory is taken for what the file holds, not for what it says.
absl::StatusOr<StoredLayers> ReadStoredLayers(const PackedFile& file, Device& device,
                                              WorkerPool& pool);

}  // namespace penstock
