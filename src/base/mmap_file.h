// A file mapped read-only.
// Owns the mapping. Must not know what the bytes mean.
// Threads: immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

struct stat;

namespace penstock {

class MmapFile {
 public:
  /// NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT (no regular file), naming the path. An empty
  /// file maps to no bytes.
  static absl::StatusOr<MmapFile> Open(const std::string& path);

  MmapFile(MmapFile&& other) noexcept;
  MmapFile& operator=(MmapFile&& other) noexcept;
  ~MmapFile();

  /// Lets the resident pages go; touching the bytes reads them again. What is read from now on is in
  /// use for good: a file that is cut ends the process, with one line that names it and code 70.
  void KeepForUse() const;

  /// Of a file that is cut later, what is gone reads as zeros; see Intact.
  absl::Span<const std::byte> bytes() const { return {data_, size_}; }
  /// DATA_LOSS, naming the path, where the file was cut or written since it was opened: what was
  /// read of it is not to be used. A file that was put in its place is another, and no matter.
  absl::Status Intact() const;

 private:
  /// What changes where somebody writes the file.
  struct Written {
    int64_t bytes = 0;
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    bool operator==(const Written&) const = default;
  };

  MmapFile() = default;
  static Written WrittenOf(const struct stat& info);

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  Written written_;
};

}  // namespace penstock
