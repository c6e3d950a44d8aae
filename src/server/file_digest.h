// What the files of a model are, as one SHA-256: of the names, sizes and bytes of its configuration,
// tokenizer and weights.
// Owns nothing. Must not know what the files mean.
// Threads: thread-safe; a second for a gigabyte or two.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace penstock {

/// `path`: a directory, of which the files that a model may have count, or one file, of which the
/// further shards count too. Hexadecimal.
absl::StatusOr<std::string> FilesDigest(const std::string& path);

}  // namespace penstock
