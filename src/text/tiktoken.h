// Makes a tokenizer of a tiktoken file: a line per token, its bytes in base64 and its rank.
// Owns nothing. Must not know engines or the wire.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/tokenizer.h"
#include "text/added_tokens.h"

namespace penstock {

/// What the file itself does not say: how words are cut, and which special tokens there are.
enum class TiktokenFamily { kGpt2, kCl100k, kLlama3, kQwen, kO200k, kKimi };

/// True where `text` starts as such a file does.
bool LooksLikeTiktoken(std::string_view text);

/// By the file's name (cl100k_base, qwen, ...), else by the number of its tokens; absent where
/// neither is known.
std::optional<TiktokenFamily> GuessTiktokenFamily(std::string_view file_name,
                                                  std::string_view text);

/// `added_tokens` are found beside those of the family, which give way.
/// INVALID_ARGUMENT with the line where the file is malformed.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktoken(
    std::string_view text, TiktokenFamily family, const std::vector<AddedToken>& added_tokens = {});

}  // namespace penstock
