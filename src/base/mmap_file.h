// A file mapped read-only.
// Owns the mapping. Must not know what the bytes mean.
// Threads: immutable.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace penstock {

class MmapFile {
 public:
  /// NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT (no regular file), naming the path. An empty
  /// file maps to no bytes.
  static absl::StatusOr<MmapFile> Open(const std::string& path);

  MmapFile(MmapFile&& other) noexcept;
  MmapFile& operator=(MmapFile&& other) noexcept;
  ~MmapFile();

  /// Lets the resident pages go; touching the bytes reads them again.
  void DropPages() const;

  absl::Span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MmapFile(const std::byte* data, size_t size) : data_(data), size_(size) {}

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace penstock
