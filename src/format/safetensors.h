// Reads safetensors: one file, or the shards that model.safetensors.index.json lists. Strict: what
// does not add up to the last byte is refused, so that a view never reaches outside its file.
// Owns the mappings; views live as long as it does. Must not know what a tensor is for.
// Threads: immutable.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mmap_file.h"
#include "penstock/types.h"

namespace penstock {

struct SafetensorsEntry {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  uint64_t begin = 0, num_bytes = 0;  // of it in what follows the header
  absl::Span<const std::byte> data;   // any alignment; empty where the header alone was read
  int32_t file = 0;                   // index into Safetensors::paths()
  mutable bool found = false;         // Find has returned it
};

class Safetensors {
 public:
  using Entries = std::map<std::string, SafetensorsEntry, std::less<>>;

  /// One file.
  static absl::StatusOr<Safetensors> OpenFile(const std::string& path);
  /// `dir`/model.safetensors, or the shards of `dir`/model.safetensors.index.json where there is
  /// one, or else the only file of the kind in `dir`.
  static absl::StatusOr<Safetensors> OpenModel(const std::string& dir);

  /// For when most tensors were copied elsewhere; as MmapFile's: a file that is cut then ends the
  /// process.
  void KeepForUse() const;
  /// Of all files, as MmapFile's.
  absl::Status Intact() const;
  /// nullptr where there is no tensor of that name.
  const SafetensorsEntry* Find(std::string_view name) const;
  const Entries& entries() const { return entries_; }
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  absl::Status AddFile(const std::string& path);

  std::vector<std::string> paths_;
  std::vector<MmapFile> files_;
  Entries entries_;
};

/// A file begins with this many bytes, which say how many its header has.
constexpr size_t kSafetensorsPrefix = 8;
/// The header's number of bytes, of a file of `file_bytes`; `prefix` is how it begins.
absl::StatusOr<uint64_t> SafetensorsHeaderBytes(absl::Span<const std::byte> prefix,
                                                uint64_t file_bytes, const std::string& path);
/// Checks a header with `data_bytes` behind it and adds its tensors, without `data`, to `entries`;
/// errors name `path` and the tensor.
absl::Status ParseSafetensorsHeader(std::string_view header, uint64_t data_bytes,
                                    const std::string& path, int32_t file,
                                    Safetensors::Entries& entries);
/// Both, of a whole file's bytes.
absl::Status ParseSafetensors(absl::Span<const std::byte> bytes, const std::string& path,
                              int32_t file, Safetensors::Entries& entries);

/// The shard, a plain file name, of every tensor that a model.safetensors.index.json lists.
using ShardIndex = std::map<std::string, std::string>;
/// INVALID_ARGUMENT names `path` and the tensor.
absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view text, const std::string& path);

}  // namespace penstock
