#include "format/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"

namespace penstock {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxIndexBytes = 256 << 20;
constexpr size_t kMaxRank = 16;

using Json = nlohmann::json;

std::optional<DType> DTypeOf(std::string_view name) {
  if (name == "F32") return DType::kFloat32;
  if (name == "F16") return DType::kFloat16;
  if (name == "BF16") return DType::kBFloat16;
  if (name == "I64") return DType::kInt64;
  if (name == "I32") return DType::kInt32;
  if (name == "I8") return DType::kInt8;
  if (name == "U8" || name == "BOOL") return DType::kUInt8;
  if (name == "F8_E4M3") return DType::kFloat8E4M3;
  if (name == "F8_E8M0") return DType::kFloat8E8M0;
  return std::nullopt;
}

/// The number of bytes of a tensor, or nullopt where it overflows.
std::optional<uint64_t> NumBytes(const std::vector<int64_t>& shape, DType dtype) {
  uint64_t bytes = DTypeSize(dtype);
  for (const int64_t dim : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) return std::nullopt;
  }
  return bytes;
}

absl::Status Bad(const std::string& path, std::string_view tensor, std::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": tensor \"", ToAbsl(tensor), "\": ", ToAbsl(problem)));
}

struct Extent {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string_view name;
};

/// One entry of the header, which `data_bytes` follow.
absl::StatusOr<SafetensorsEntry> ParseEntry(const Json& json, const std::string& path,
                                            const std::string& name, uint64_t data_bytes,
                                            Extent& extent) {
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets") || !json["dtype"].is_string() || !json["shape"].is_array() ||
      !json["data_offsets"].is_array()) {
    return Bad(path, name, "expected an object with dtype, shape and data_offsets");
  }
  SafetensorsEntry entry;
  const auto& dtype_name = json["dtype"].get_ref<const std::string&>();
  const std::optional<DType> dtype = DTypeOf(dtype_name);
  if (!dtype) {
    return Bad(path, name,
               absl::StrCat("dtype ", dtype_name,
                            " is not one of F32 F16 BF16 F8_E4M3 F8_E8M0 I64 I32 I8 U8 BOOL"));
  }
  entry.dtype = *dtype;
  if (json["shape"].size() > kMaxRank) return Bad(path, name, "more than 16 dimensions");
  for (const Json& dim : json["shape"]) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > INT64_MAX) {
      return Bad(path, name, "a dimension is not a whole number >= 0");
    }
    entry.shape.push_back(static_cast<int64_t>(dim.get<uint64_t>()));
  }
  const Json& offsets = json["data_offsets"];
  if (offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    return Bad(path, name, "data_offsets are not two whole numbers >= 0");
  }
  extent.begin = offsets[0].get<uint64_t>();
  extent.end = offsets[1].get<uint64_t>();
  if (extent.begin > extent.end || extent.end > data_bytes) {
    return Bad(path, name,
               absl::StrCat("data_offsets [", extent.begin, ", ", extent.end,
                            "] do not lie within the file's ", data_bytes, " bytes of data"));
  }
  const std::optional<uint64_t> expected = NumBytes(entry.shape, entry.dtype);
  if (!expected || *expected != extent.end - extent.begin) {
    return Bad(path, name,
               absl::StrCat("shape [", absl::StrJoin(entry.shape, ", "), "] of ", dtype_name,
                            " needs ", expected ? absl::StrCat(*expected) : "too many",
                            " bytes, data_offsets give ", extent.end - extent.begin));
  }
  entry.begin = extent.begin;
  entry.num_bytes = *expected;
  return entry;
}

/// The tensors must cover the data exactly: no overlap, no hole.
absl::Status CheckCover(std::vector<Extent>& extents, uint64_t size, const std::string& path) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (const Extent& extent : extents) {
    if (extent.begin < covered) {
      return Bad(path, extent.name,
                 absl::StrCat("overlaps the tensor before it (begins at ", extent.begin,
                              ", expected ", covered, ")"));
    }
    if (extent.begin > covered) {
      return Bad(path, extent.name,
                 absl::StrCat("leaves a hole before it (begins at ", extent.begin, ", expected ",
                              covered, ")"));
    }
    covered = extent.end;
  }
  if (covered != size) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the tensors end at byte ", covered,
                                                   " of the data, the file at ", size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> SafetensorsHeaderBytes(absl::Span<const std::byte> prefix,
                                                uint64_t file_bytes, const std::string& path) {
  uint64_t header_bytes = 0;
  static_assert(sizeof header_bytes == kSafetensorsPrefix);
  if (file_bytes < kSafetensorsPrefix) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file_bytes, " bytes, too short for a safetensors file"));
  }
  std::memcpy(&header_bytes, prefix.data(), kSafetensorsPrefix);
  const uint64_t most = std::min(kMaxHeaderBytes, file_bytes - kSafetensorsPrefix);
  if (header_bytes > most) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": header of ", header_bytes,
                                                   " bytes, expected at most ", most,
                                                   " (truncated file?)"));
  }
  return header_bytes;
}

absl::Status ParseSafetensorsHeader(std::string_view text, uint64_t data_bytes,
                                    const std::string& path, int32_t file,
                                    Safetensors::Entries& entries) {
  ASSIGN_OR_RETURN(const Json header, ParseJson(text, absl::StrCat(path, ": header")));
  if (!header.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": header: expected an object"));
  }
  std::vector<Extent> extents;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    Extent extent;
    ASSIGN_OR_RETURN(SafetensorsEntry entry, ParseEntry(value, path, name, data_bytes, extent));
    entry.file = file;
    const auto [it, inserted] = entries.emplace(name, std::move(entry));
    if (!inserted) return Bad(path, name, "is in an earlier shard as well");
    extent.name = it->first;
    extents.push_back(extent);
  }
  return CheckCover(extents, data_bytes, path);
}

absl::Status ParseSafetensors(absl::Span<const std::byte> bytes, const std::string& path,
                              int32_t file, Safetensors::Entries& entries) {
  ASSIGN_OR_RETURN(const uint64_t header_bytes, SafetensorsHeaderBytes(bytes, bytes.size(), path));
  bytes.remove_prefix(kSafetensorsPrefix);
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()), header_bytes);
  bytes.remove_prefix(header_bytes);
  RETURN_IF_ERROR(ParseSafetensorsHeader(header, bytes.size(), path, file, entries));
  for (auto& [name, entry] : entries) {
    if (entry.file == file) entry.data = bytes.subspan(entry.begin, entry.num_bytes);
  }
  return absl::OkStatus();
}

absl::Status Safetensors::AddFile(const std::string& path) {
  ASSIGN_OR_RETURN(MmapFile file, MmapFile::Open(path));
  RETURN_IF_ERROR(
      ParseSafetensors(file.bytes(), path, static_cast<int32_t>(files_.size()), entries_));
  paths_.push_back(path);
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<Safetensors> Safetensors::OpenFile(const std::string& path) {
  Safetensors result;
  RETURN_IF_ERROR(result.AddFile(path));
  return result;
}

namespace {

/// The one file of a directory, whatever its name; `usual` where there are none or several.
std::string OnlyFileOf(const std::string& dir, const std::string& usual) {
  std::string only;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() != ".safetensors") continue;
    if (!only.empty()) return usual;
    only = entry.path().string();
  }
  return only.empty() ? usual : only;
}

}  // namespace

absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view text, const std::string& path) {
  ASSIGN_OR_RETURN(const Json index, ParseJson(text, path));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected an object \"weight_map\""));
  }
  ShardIndex shard_of;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) return Bad(path, name, "its shard is not a string");
    const auto& file = shard.get_ref<const std::string&>();
    // A NUL would end the name of the file that is opened.
    if (file.empty() || file[0] == '.' || file.find('/') != file.npos ||
        file.find('\0') != file.npos) {
      return Bad(path, name, absl::StrCat("shard \"", file, "\" is not a plain file name"));
    }
    shard_of.emplace(name, file);
  }
  return shard_of;
}

absl::StatusOr<Safetensors> Safetensors::OpenModel(const std::string& dir) {
  const std::string single = absl::StrCat(dir, "/model.safetensors");
  const std::string index_path = absl::StrCat(single, ".index.json");
  if (::access(index_path.c_str(), F_OK) != 0) {
    return OpenFile(::access(single.c_str(), F_OK) == 0 ? single : OnlyFileOf(dir, single));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index_path, kMaxIndexBytes));
  ASSIGN_OR_RETURN(const ShardIndex index, ParseShardIndex(text, index_path));
  std::set<std::string> shards;
  for (const auto& [name, shard] : index) shards.insert(shard);
  Safetensors result;
  for (const std::string& shard : shards)
    RETURN_IF_ERROR(result.AddFile(absl::StrCat(dir, "/", shard)));
  for (const auto& [name, shard] : index) {
    const auto entry = result.entries_.find(name);
    const std::string path = absl::StrCat(dir, "/", shard);
    if (entry == result.entries_.end() || result.paths_[entry->second.file] != path) {
      return Bad(index_path, name, absl::StrCat("is not in ", path));
    }
  }
  return result;
}

void Safetensors::KeepForUse() const {
  for (const MmapFile& file : files_) file.KeepForUse();
}

absl::Status Safetensors::Intact() const {
  for (const MmapFile& file : files_) RETURN_IF_ERROR(file.Intact());
  return absl::OkStatus();
}

const SafetensorsEntry* Safetensors::Find(std::string_view name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) return nullptr;
  it->second.found = true;
  return &it->second;
}

}  // namespace penstock
