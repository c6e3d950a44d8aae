// Reads GGUF, versions 2 and 3, little endian: one file, or the shards name-00001-of-0000N.gguf.
// Strict: what a view shows lies within its file, and no two tensors overlap.
// Owns the mappings; views live as long as it does. Must not know what a key or tensor is for.
// Threads: immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mmap_file.h"
#include "format/ggml_blocks.h"

namespace penstock {

/// As the file spells it.
enum class GgufType : uint32_t {
  kUInt8,
  kInt8,
  kUInt16,
  kInt16,
  kUInt32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUInt64,
  kInt64,
  kFloat64,
};

struct GgufValue {
  GgufType type = GgufType::kUInt8;  // of the elements, where it is an array
  bool is_array = false;
  uint64_t size = 1;                 // elements
  absl::Span<const std::byte> data;  // the elements as they lie in the file

  bool is_integer() const;  // or bool
  /// Element i < size of an integer or bool type; what does not fit int64_t is INT64_MAX.
  int64_t Int(uint64_t i) const;
  /// Element i < size of a float type.
  double Float(uint64_t i) const;
};

struct GgufTensor {
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;        // row-major: the last dimension is the row
  absl::Span<const std::byte> data;  // any alignment
  int32_t file = 0;                  // index into Gguf::paths()
  mutable bool found = false;        // FindTensor has returned it
};

/// What one file says.
struct GgufContents {
  std::map<std::string_view, GgufValue, std::less<>> metadata;
  std::map<std::string_view, GgufTensor, std::less<>> tensors;
};

class Gguf {
 public:
  /// A file, or all shards of which `path` names the first.
  static absl::StatusOr<Gguf> Open(const std::string& path);
  /// One file's bytes, which outlive the result; `path` is for messages.
  static absl::StatusOr<Gguf> FromBytes(absl::Span<const std::byte> bytes, const std::string& path);

  /// nullptr where the key is absent.
  const GgufValue* Find(std::string_view key) const;
  /// Each names the file, the key and what was expected; nullopt where the key is absent.
  absl::StatusOr<std::optional<int64_t>> Int(std::string_view key) const;
  absl::StatusOr<std::optional<double>> Float(std::string_view key) const;
  absl::StatusOr<std::optional<bool>> Bool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string_view>> String(std::string_view key) const;
  /// An array of integers or bools, of floats; read through GgufValue::Int and Float.
  absl::StatusOr<const GgufValue*> Ints(std::string_view key) const;
  absl::StatusOr<const GgufValue*> Floats(std::string_view key) const;
  /// Empty where the key is absent. The bytes are the file's, UTF-8 or not.
  absl::StatusOr<std::vector<std::string_view>> Strings(std::string_view key) const;

  /// nullptr where there is no tensor of that name.
  const GgufTensor* FindTensor(std::string_view name) const;
  const GgufContents& contents() const { return contents_; }
  const std::vector<std::string>& paths() const { return paths_; }
  /// As MmapFile's: a file that is cut then ends the process.
  void KeepForUse() const;
  /// Of all files, as MmapFile's.
  absl::Status Intact() const;

 private:
  absl::Status AddFile(const std::string& path, int64_t shard, int64_t num_shards);
  absl::Status Mismatch(std::string_view key, std::string_view expected) const;

  std::vector<std::string> paths_;
  std::vector<MmapFile> files_;
  GgufContents contents_;
};

/// Checks a file's bytes; errors name `path` and the key or tensor. Tensors get `file`.
absl::StatusOr<GgufContents> ParseGguf(absl::Span<const std::byte> bytes, const std::string& path,
                                       int32_t file);

}  // namespace penstock
