// The tensors of an adapter's file, read one by one: one that is written to meanwhile harms nobody.
// Owns the open file. Must not know what a tensor is for.
// Threads: confined to the loading thread.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "absl/status/statusor.h"
#include "format/safetensors.h"
#include "model/tensor_source.h"

namespace penstock {

class AdapterFile {
 public:
  /// Reads its header alone. Errors name the file.
  static absl::StatusOr<AdapterFile> Open(const std::string& path);

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
  std::ifstream in_;
  uint64_t data_begin_ = 0;  // of the tensors' bytes in the file
  Safetensors::Entries entries_;
};

}  // namespace penstock
