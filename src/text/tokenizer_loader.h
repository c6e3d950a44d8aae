// Makes a tokenizer of a Hugging Face tokenizer.json.
// Owns nothing. Must not know engines or the wire.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "penstock/tokenizer.h"

namespace penstock {

/// NOT_FOUND where the file cannot be read, INVALID_ARGUMENT where it is malformed, UNIMPLEMENTED
/// where it needs a part that is not supported; the message starts with `path`.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path);

/// The same for the file's text.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(std::string_view json_text);

}  // namespace penstock
