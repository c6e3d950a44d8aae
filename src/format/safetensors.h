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
  absl::Span<const std::byte> data;  // any alignment
  int32_t file = 0;                  // index into Safetensors::paths()
  mutable bool found = false;        // Find has returned it
};

class Safetensors {
 public:
  using Entries = std::map<std::string, SafetensorsEntry, std::less<>>;

  /// One file.
  static absl::StatusOr<Safetensors> OpenFile(const std::string& path);
  /// `dir`/model.safetensors, or the shards of `dir`/model.safetensors.index.json where there is
  /// one, or else the only file of the kind in `dir`.
  static absl::StatusOr<Safetensors> OpenModel(const std::string& dir);

  /// Lets resident pages go, for when most tensors were copied elsewhere.
  void DropPages() const;
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

/// Checks a file's bytes and adds its tensors to `entries`; errors name `path` and the tensor.
absl::Status ParseSafetensors(absl::Span<const std::byte> bytes, const std::string& path,
                              int32_t file, Safetensors::Entries& entries);

/// The shard, a plain file name, of every tensor that a model.safetensors.index.json lists.
using ShardIndex = std::map<std::string, std::string>;
/// INVALID_ARGUMENT names `path` and the tensor.
absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view text, const std::string& path);

}  // namespace penstock
