// Writes packed layers to a file that takes its place once it is whole and durable.
// Owns the unfinished file. Must not know what the layers are for.
// Threads: confined to the loading thread; hashes on the pool.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backend/cpu/packed_file.h"
#include "backend/packed_device.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

class PackedWriter {
 public:
  /// Makes the folder where it is missing. UNAVAILABLE where another process writes the same file.
  static absl::StatusOr<std::unique_ptr<PackedWriter>> Create(const PackedFile& file,
                                                              WorkerPool& pool);
  ~PackedWriter();
  PackedWriter(const PackedWriter&) = delete;
  PackedWriter& operator=(const PackedWriter&) = delete;

  /// `weight_bytes` of packed.weight are in use.
  absl::Status Add(const PackedLinear& packed, int64_t weight_bytes);
  absl::Status Finish();
  int64_t file_bytes() const { return at_; }

 private:
  PackedWriter(const PackedFile& file, int fd, WorkerPool& pool)
      : file_(file), fd_(fd), pool_(pool) {}

  absl::StatusOr<PackedSection> AddSection(const void* data, int64_t bytes);
  absl::Status Write(int64_t begin, absl::Span<const std::byte> bytes);

  PackedFile file_;
  int fd_;  // of PartialPath(), locked
  WorkerPool& pool_;
  int64_t at_ = kPackedPage;
  std::vector<PackedLayer> layers_;
  bool finished_ = false;
};

}  // namespace penstock
