// The tensors of an adapter's file, read whole: one that is written to meanwhile harms nobody.
// Owns the bytes. Must not know what a tensor is for.
// Threads: immutable after opening.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "format/safetensors.h"
#include "model/tensor_source.h"

namespace penstock {

class AdapterFile {
 public:
  /// INVALID_ARGUMENT where it has more than `max_bytes`. Errors name the file.
  static absl::StatusOr<AdapterFile> Open(const std::string& path, int64_t max_bytes);

  const std::string& path() const { return path_; }
  const Safetensors::Entries& entries() const { return entries_; }
  bool Has(const std::string& name) const { return entries_.find(name) != entries_.end(); }
  /// Whether there is one whose name begins so.
  bool HasPrefix(const std::string& prefix) const;
  /// A matrix [rows, cols] of numbers, all of them finite; lies in the file's bytes.
  absl::StatusOr<HostTensor> Matrix(const std::string& name, int64_t rows, int64_t cols) const;

 private:
  std::string path_;
  std::vector<std::byte> bytes_;
  Safetensors::Entries entries_;
};

}  // namespace penstock
