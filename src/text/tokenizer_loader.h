// Makes a tokenizer of a file: a Hugging Face tokenizer.json, a SentencePiece model or a tiktoken
// file.
// Owns nothing. Must not know engines or the wire.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/tokenizer.h"
#include "text/added_tokens.h"

namespace penstock {

/// What a tokenizer.model leaves to the tokenizer_config.json beside it.
struct TokenizerOptions {
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::vector<AddedToken> added_tokens;  // with their ids; those of the file give way
  std::optional<bool> legacy;  // a blank before every part between special tokens; absent: true
};

/// The kind of the file is told by its content. NOT_FOUND where the file cannot be read,
/// INVALID_ARGUMENT where it is malformed, UNIMPLEMENTED where it needs a part that is not
/// supported; the message starts with `path`.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path,
                                                         const TokenizerOptions& options = {});

/// The same for the text of a tokenizer.json.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(std::string_view json_text);

}  // namespace penstock
