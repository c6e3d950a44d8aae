// Which way a product of many rows goes, by the shape and form of its weights and a bucket of rows;
// kept on disk, since it takes measuring to know.
// Owns the entries. No CUDA header: built and tested everywhere. Must not know tensors or kernels.
// Threads: confined to one rank's thread; files are shared between processes.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace penstock {

enum class LinearPath : uint8_t {
  kBlocks,         // our own kernel, a few blocks of rows at a time
  kExpand,         // codes become numbers, then kBlocks
  kLibrary,        // cuBLASLt
  kExpandLibrary,  // codes become numbers, then cuBLASLt
};

struct LinearKey {
  std::string form;  // of the weights, a word
  int64_t n = 0;
  int64_t k = 0;
  int32_t bucket = 0;  // BucketOfRows
  auto operator<=>(const LinearKey&) const = default;
};

struct LinearChoice {
  LinearPath path = LinearPath::kBlocks;
  std::array<uint64_t, 8> algorithm = {};  // the library's, which alone knows what it says
};

/// 0: so few rows that one kernel of ours takes them all, and always does; else the least power of
/// two that is not below `rows`, 8192 at most.
int32_t BucketOfRows(int64_t rows);

class LinearTable {
 public:
  /// Reads the entries of `machine` from its file in `folder`; empty: there is no file. A file that is
  /// not understood, or another machine's, is as none.
  LinearTable(std::string folder, std::string machine);

  std::optional<LinearChoice> Find(const LinearKey& key) const;
  /// Keeps the choice, and writes the file anew.
  absl::Status Set(const LinearKey& key, const LinearChoice& choice);
  /// Where the entries are kept; empty: nowhere.
  const std::string& file() const { return file_; }
  size_t size() const { return entries_.size(); }

 private:
  void Read();

  std::string machine_;
  std::string file_;
  std::map<LinearKey, LinearChoice> entries_;
};

}  // namespace penstock
