#include "model/adapter_file.h"

#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/host_tensor.h"

namespace penstock {

absl::StatusOr<AdapterFile> AdapterFile::Open(const std::string& path, int64_t max_bytes) {
  AdapterFile file;
  file.path_ = path;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return absl::NotFoundError(absl::StrCat(path, " cannot be read"));
  const auto size = static_cast<int64_t>(in.tellg());
  if (size > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has ", size, " bytes, an adapter within lora.max_rank has at most ", max_bytes,
        "; experts need lora.experts: true, and copies of embedding and head are not taken "
        "(save_embedding_layers=False)"));
  }
  file.bytes_.resize(size);
  in.seekg(0);
  if (!in.read(reinterpret_cast<char*>(file.bytes_.data()), size))
    return absl::UnavailableError(absl::StrCat(path, " cannot be read"));
  RETURN_IF_ERROR(ParseSafetensors(file.bytes_, path, 0, file.entries_));
  return file;
}

bool AdapterFile::HasPrefix(const std::string& prefix) const {
  const auto it = entries_.lower_bound(prefix);
  return it != entries_.end() && it->first.starts_with(prefix);
}

absl::StatusOr<HostTensor> AdapterFile::Matrix(const std::string& name, int64_t rows,
                                               int64_t cols) const {
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
  HostTensor tensor{entry.dtype, entry.shape, entry.data.data(), nullptr};
  for (const float value : Widen(tensor)) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor \"", name, "\" holds what is no number"));
    }
  }
  return tensor;
}

}  // namespace penstock
