// What the small JSON files beside a tokenizer say of it: tokenizer_config.json and, in older
// directories, added_tokens.json and special_tokens_map.json.
// Owns nothing. Must not know directories, engines or the wire.
// Threads: n/a; pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "text/tokenizer_loader.h"

namespace penstock {

/// The largest id of an added token.
inline constexpr TokenId kMaxAddedTokenId = 1 << 24;

/// The object that a file's text is. INVALID_ARGUMENT "<path>: ..." where it is something else.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& path);

/// A token as text: a string, or an object with "content"; "" where `key` is neither.
std::string TokenText(const nlohmann::json& object, const std::string& key);

/// add_bos_token, add_eos_token, legacy and added_tokens_decoder, whose tokens are in the order of
/// their ids. INVALID_ARGUMENT names `path`, the key and what was expected.
absl::StatusOr<TokenizerOptions> ReadTokenizerOptions(const nlohmann::json& tokenizer_config,
                                                      const std::string& path);

/// added_tokens.json, {"<|im_start|>": 32000, ...}, in the order of ids: older directories have it
/// instead of added_tokens_decoder, and name the special ones in `tokenizer_config` and
/// `special_tokens_map`. INVALID_ARGUMENT names `path` and the token.
absl::StatusOr<std::vector<AddedToken>> ReadAddedTokensFile(
    const nlohmann::json& added_tokens, const std::string& path,
    const nlohmann::json& tokenizer_config, const nlohmann::json& special_tokens_map);

}  // namespace penstock
