// Digests of files, read in pieces; and what the files of a model are, as one SHA-256: of the names,
// sizes and bytes of its configuration, tokenizer and weights.
// Owns OpenSSL's state of one digest. Must not know what the files mean.
// Threads: a RunningDigest is of one thread; a second for a gigabyte or two.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

class RunningDigest {
 public:
  enum class Kind : uint8_t { kSha1, kSha256 };
  explicit RunningDigest(Kind kind);
  ~RunningDigest();

  void Add(std::string_view bytes);
  /// UNAVAILABLE names the file that cannot be read.
  absl::Status AddFile(const std::string& path);
  /// Hexadecimal; once.
  std::string Hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// `path`: a directory, of which the files that a model may have count, also those one folder below
/// (modules of sentence-transformers), or one file, of which the further shards count too.
/// Hexadecimal.
absl::StatusOr<std::string> FilesDigest(const std::string& path);

/// Of the same files, those above 1 MiB by pieces at even distances; hexadecimal.
absl::StatusOr<std::string> FilesFingerprint(const std::string& path);

}  // namespace penstock
