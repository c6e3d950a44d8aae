// The tensors of an adapter's file, read one by one, or from the host's pool of such files: one that
// is written to meanwhile harms nobody.
// Owns the open file. Must not know what a tensor is for.
// Threads: confined to the loading thread.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "absl/status/statusor.h"
#include "format/safetensors.h"
#include "model/adapter_file_pool.h"
#include "model/tensor_source.h"

namespace penstock {

class AdapterFile {
 public:
  /// From `pool` where it has room, else its header alone is read. `pool` may be null. Errors name
  /// the file.
  static absl::StatusOr<AdapterFile> Open(const std::string& path, AdapterFilePool* pool);

  const std::string& path() const { return path_; }
  const Safetensors::Entries& entries() const { return entries_; }
  bool Has(const std::string& name) const { return entries_.find(name) != entries_.end(); }
  /// Whether there is one whose name begins so.
  bool HasPrefix(const std::string& prefix) const;
  /// OK where it is a matrix [rows, cols] of float32, float16 or bfloat16.
  absl::Status CheckMatrix(const std::string& name, int64_t rows, int64_t cols) const;
  /// A matrix [rows, cols] of numbers, all of them finite.
  absl::StatusOr<HostTensor> Matrix(const std::string& name, int64_t rows, int64_t cols);
  /// Likewise rows [begin, begin + count) of one that CheckMatrix has passed.
  absl::StatusOr<HostTensor> Rows(const std::string& name, int64_t begin, int64_t count);

 private:
  std::string path_;
  AdapterFilePool::Bytes pooled_;  // null: tensors are read from in_
  std::ifstream in_;
  uint64_t data_begin_ = 0;  // of the tensors' bytes in the file
  Safetensors::Entries entries_;
};

}  // namespace penstock
