#include "model/adapter_file.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/host_tensor.h"

namespace penstock {

absl::StatusOr<AdapterFile> AdapterFile::Open(const std::string& path, AdapterFilePool* pool) {
  AdapterFile file;
  file.path_ = path;
  if (pool != nullptr) file.pooled_ = pool->Read(path);
  if (file.pooled_ != nullptr) {
    RETURN_IF_ERROR(ParseSafetensors(*file.pooled_, path, 0, file.entries_));
    return file;
  }
  const auto read = [&](void* to, uint64_t bytes) {
    return bool(file.in_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes)));
  };
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);  // an error for what is no file
  if (!error) file.in_.open(path, std::ios::binary);
  if (error || !file.in_) return absl::NotFoundError(absl::StrCat(path, " cannot be read"));
  std::byte prefix[kSafetensorsPrefix] = {};
  const bool there = size < kSafetensorsPrefix || read(prefix, sizeof prefix);
  ASSIGN_OR_RETURN(const uint64_t header_bytes, SafetensorsHeaderBytes(prefix, size, path));
  std::string header(header_bytes, '\0');
  if (!there || !read(header.data(), header_bytes))
    return absl::UnavailableError(absl::StrCat(path, " cannot be read"));
  file.data_begin_ = kSafetensorsPrefix + header_bytes;
  RETURN_IF_ERROR(ParseSafetensorsHeader(header, size - file.data_begin_, path, 0, file.entries_));
  return file;
}

bool AdapterFile::HasPrefix(const std::string& prefix) const {
  const auto it = entries_.lower_bound(prefix);
  return it != entries_.end() && it->first.starts_with(prefix);
}

absl::Status AdapterFile::CheckMatrix(const std::string& name, int64_t rows, int64_t cols) const {
  const auto it = entries_.find(name);
  if (it == entries_.end())
    return absl::NotFoundError(absl::StrCat(path_, ": tensor \"", name, "\" is missing"));
  const SafetensorsEntry& entry = it->second;
  const bool plain = entry.dtype == DType::kFloat32 || entry.dtype == DType::kFloat16 ||
                     entry.dtype == DType::kBFloat16;
  if (!plain || entry.shape.size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_, ": tensor \"", name, "\" is ", ToAbsl(DTypeName(entry.dtype)), " [",
        absl::StrJoin(entry.shape, ", "), "], expected a matrix of float32, float16 or bfloat16"));
  }
  if (entry.shape[0] != rows || entry.shape[1] != cols) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor \"", name, "\" has shape [", absl::StrJoin(entry.shape, ", "),
                     "], the model and adapter_config.json ask for [", rows, ", ", cols, "]"));
  }
  return absl::OkStatus();
}

absl::StatusOr<HostTensor> AdapterFile::Matrix(const std::string& name, int64_t rows,
                                               int64_t cols) {
  RETURN_IF_ERROR(CheckMatrix(name, rows, cols));
  return Rows(name, 0, rows);
}

absl::StatusOr<HostTensor> AdapterFile::Rows(const std::string& name, int64_t begin,
                                             int64_t count) {
  const SafetensorsEntry& entry = entries_.find(name)->second;
  const uint64_t row_bytes = entry.shape[1] * DTypeSize(entry.dtype);
  HostTensor tensor{entry.dtype, {count, entry.shape[1]}, nullptr, pooled_};
  if (pooled_ != nullptr) {
    tensor.data = entry.data.data() + begin * row_bytes;
  } else {
    auto bytes = std::make_shared<std::vector<char>>(count * row_bytes);
    in_.seekg(static_cast<std::streamoff>(data_begin_ + entry.begin + begin * row_bytes));
    if (!in_.read(bytes->data(), static_cast<std::streamsize>(bytes->size())))
      return absl::UnavailableError(absl::StrCat(path_, ": tensor \"", name, "\" cannot be read"));
    tensor.data = bytes->data();
    tensor.owner = bytes;
  }
  for (const float value : Widen(tensor)) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor \"", name, "\" holds what is no number"));
    }
  }
  return tensor;
}

}  // namespace penstock
