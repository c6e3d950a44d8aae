// Stands in for a device while a model loads: its packed layers come from a file, or go to one.
// Owns the file. Must not know models.
// Threads: confined to the loading thread.
#pragma once

#include <memory>
#include <string>

#include "backend/make_backend.h"
#include "base/siphash.h"
#include "penstock/backend.h"

namespace penstock {

/// Pack is replaced, all else is the device's own.
class PackedDevice : public Device {
 public:
  /// After the last layer. Reading: INTERNAL where the file has more. Writing: the file takes its
  /// place, durable; on an error there is none.
  virtual absl::Status Finish() = 0;
  /// Of the file, once read or finished.
  virtual int64_t file_bytes() const = 0;
};

struct PackedFile {
  std::string path;
  Hash128 key;  // of what is packed and how
};

/// Reads and checks all of the file. NOT_FOUND: there is none; FAILED_PRECONDITION: it has another
/// key; DATA_LOSS: it is damaged. Pack fails with DATA_LOSS where a layer is not the one asked for.
absl::StatusOr<std::unique_ptr<PackedDevice>> ReadPacked(const OpenedBackend& backend,
                                                         const PackedFile& file, WorkerPool& pool);

/// Writes beside the path first. UNAVAILABLE where another process is writing it. A layer that
/// cannot be written fails in Finish alone.
absl::StatusOr<std::unique_ptr<PackedDevice>> WritePacked(const OpenedBackend& backend,
                                                          const PackedFile& file, WorkerPool& pool);

}  // namespace penstock
