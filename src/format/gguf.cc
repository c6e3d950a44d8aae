#include "format/gguf.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr size_t kMaxTensorsOfModel = 1 << 17;
constexpr int64_t kMaxShards = 99'999;  // what the name of a shard has digits for
constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitNumber = "split.no";
constexpr std::string_view kSplitTensors = "split.tensors.count";

/// `stem`-00001-of-0000N.gguf; false where `path` is no such name.
bool SplitName(const std::string& path, std::string& stem, int64_t& number, int64_t& count) {
  constexpr size_t kTail = sizeof("-00001-of-00001.gguf") - 1;
  if (path.size() <= kTail) return false;
  const std::string tail = path.substr(path.size() - kTail);
  const auto digits = [&](size_t begin, int64_t& out) {
    out = 0;
    for (size_t i = begin; i < begin + 5; ++i) {
      if (tail[i] < '0' || tail[i] > '9') return false;
      out = out * 10 + (tail[i] - '0');
    }
    return true;
  };
  stem = path.substr(0, path.size() - kTail);
  return tail[0] == '-' && digits(1, number) && tail.substr(6, 4) == "-of-" && digits(10, count) &&
         tail.substr(15) == ".gguf";
}

std::string ShardPath(const std::string& stem, int64_t number, int64_t count) {
  return absl::StrFormat("%s-%05d-of-%05d.gguf", stem, number, count);
}

absl::Status CheckShard(const GgufContents& contents, const std::string& path, std::string_view key,
                        int64_t expected) {
  const auto it = contents.metadata.find(key);
  const bool number =
      it != contents.metadata.end() && !it->second.is_array && it->second.is_integer();
  if (number && it->second.Int(0) == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", ToAbsl(key), " is ",
                   number ? absl::StrCat(it->second.Int(0)) : "missing", ", expected ", expected));
}

}  // namespace

absl::Status Gguf::AddFile(const std::string& path, int64_t shard, int64_t num_shards) {
  ASSIGN_OR_RETURN(MmapFile file, MmapFile::Open(path));
  ASSIGN_OR_RETURN(GgufContents own,
                   ParseGguf(file.bytes(), path, static_cast<int32_t>(files_.size())));
  if (num_shards > 1) {
    RETURN_IF_ERROR(CheckShard(own, path, kSplitCount, num_shards));
    RETURN_IF_ERROR(CheckShard(own, path, kSplitNumber, shard));
  }
  for (auto& [name, tensor] : own.tensors) {
    if (!contents_.tensors.emplace(name, std::move(tensor)).second) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", "tensor \"", ToAbsl(name),
                                                     "\": is in an earlier shard as well"));
    }
  }
  if (contents_.tensors.size() > kMaxTensorsOfModel) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": more than ", kMaxTensorsOfModel, " tensors in all shards"));
  }
  if (shard == 0) contents_.metadata = std::move(own.metadata);
  paths_.push_back(path);
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<Gguf> Gguf::FromBytes(absl::Span<const std::byte> bytes, const std::string& path) {
  Gguf result;
  ASSIGN_OR_RETURN(result.contents_, ParseGguf(bytes, path, 0));
  result.paths_.push_back(path);
  return result;
}

absl::StatusOr<Gguf> Gguf::Open(const std::string& path) {
  Gguf result;
  RETURN_IF_ERROR(result.AddFile(path, 0, 1));
  ASSIGN_OR_RETURN(const std::optional<int64_t> count, result.Int(kSplitCount));
  if (!count || *count == 1) return result;
  std::string stem;
  int64_t number = 0;
  int64_t named_count = 0;
  if (*count < 1 || *count > kMaxShards || !SplitName(path, stem, number, named_count) ||
      named_count != *count) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a part of ", *count, " files, expected a name that ends in ",
                     ShardPath("", 1, std::clamp<int64_t>(*count, 1, kMaxShards))));
  }
  if (number != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": is shard ", number, ", expected the first, ", ShardPath(stem, 1, *count)));
  }
  RETURN_IF_ERROR(CheckShard(result.contents_, path, kSplitNumber, 0));
  for (int64_t i = 1; i < *count; ++i) {
    RETURN_IF_ERROR(result.AddFile(ShardPath(stem, i + 1, *count), i, *count));
  }
  if (result.Find(kSplitTensors) != nullptr) {
    RETURN_IF_ERROR(CheckShard(result.contents_, path, kSplitTensors,
                               static_cast<int64_t>(result.contents_.tensors.size())));
  }
  return result;
}

const GgufValue* Gguf::Find(std::string_view key) const {
  const auto it = contents_.metadata.find(key);
  return it == contents_.metadata.end() ? nullptr : &it->second;
}

const GgufTensor* Gguf::FindTensor(std::string_view name) const {
  const auto it = contents_.tensors.find(name);
  if (it == contents_.tensors.end()) return nullptr;
  it->second.found = true;
  return &it->second;
}

absl::Status Gguf::Mismatch(std::string_view key, std::string_view expected) const {
  return absl::InvalidArgumentError(
      absl::StrCat(paths_.front(), ": ", ToAbsl(key), ": expected ", ToAbsl(expected)));
}

absl::StatusOr<std::optional<int64_t>> Gguf::Int(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || !value->is_integer() || value->type == GgufType::kBool) {
    return Mismatch(key, "an integer");
  }
  return value->Int(0);
}

absl::StatusOr<std::optional<double>> Gguf::Float(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || (value->type != GgufType::kFloat32 && value->type != GgufType::kFloat64)) {
    return Mismatch(key, "a float");
  }
  return value->Float(0);
}

absl::StatusOr<std::optional<bool>> Gguf::Bool(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kBool) return Mismatch(key, "a bool");
  return value->Int(0) != 0;
}

absl::StatusOr<std::optional<std::string_view>> Gguf::String(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kString) return Mismatch(key, "a string");
  const auto text = value->data.subspan(sizeof(uint64_t));
  return std::string_view(reinterpret_cast<const char*>(text.data()), text.size());
}

absl::StatusOr<const GgufValue*> Gguf::Ints(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value != nullptr && (!value->is_array || !value->is_integer())) {
    return Mismatch(key, "an array of integers or bools");
  }
  return value;
}

absl::StatusOr<const GgufValue*> Gguf::Floats(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value != nullptr && (!value->is_array || (value->type != GgufType::kFloat32 &&
                                                value->type != GgufType::kFloat64))) {
    return Mismatch(key, "an array of floats");
  }
  return value;
}

absl::StatusOr<std::vector<std::string_view>> Gguf::Strings(std::string_view key) const {
  const GgufValue* value = Find(key);
  std::vector<std::string_view> out;
  if (value == nullptr) return out;
  if (!value->is_array || value->type != GgufType::kString) {
    return Mismatch(key, "an array of strings");
  }
  absl::Span<const std::byte> left = value->data;  // checked when the file was read
  out.reserve(value->size);
  for (uint64_t i = 0; i < value->size; ++i) {
    uint64_t size;
    std::memcpy(&size, left.data(), sizeof size);
    out.emplace_back(reinterpret_cast<const char*>(left.data()) + sizeof size, size);
    left.remove_prefix(sizeof size + size);
  }
  return out;
}

void Gguf::KeepForUse() const {
  for (const MmapFile& file : files_) file.KeepForUse();
}

absl::Status Gguf::Intact() const {
  for (const MmapFile& file : files_) RETURN_IF_ERROR(file.Intact());
  return absl::OkStatus();
}

}  // namespace penstock
