// Room on a disk for blocks of the KV cache: a file that has no name, so that nothing of it stays
// when the process ends, however it does.
// Owns the file. Must not know blocks.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

class TierFile {
 public:
  /// `bytes` of room in a folder, all of it taken at once. INVALID_ARGUMENT: it is no folder that a
  /// file can be made in. RESOURCE_EXHAUSTED: it has less room. Both name the key and the folder.
  static absl::StatusOr<std::unique_ptr<TierFile>> Make(const std::string& folder, int64_t bytes);
  ~TierFile();
  TierFile(const TierFile&) = delete;
  TierFile& operator=(const TierFile&) = delete;

  /// INTERNAL: the disk failed.
  absl::Status Read(int64_t offset, void* to, int64_t bytes);
  absl::Status Write(int64_t offset, const void* from, int64_t bytes);
  /// These will be read soon.
  void WillRead(int64_t offset, int64_t bytes);

 private:
  TierFile(std::string folder, int file) : folder_(std::move(folder)), file_(file) {}

  std::string folder_;
  int file_;
};

}  // namespace penstock
