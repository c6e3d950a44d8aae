// Tokens that are found in a text before the model sees it: "added_tokens" of a tokenizer.json.
// Owns their strings. Must not know normalizing or the model.
// Threads: immutable after the matchers are built.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // not where a word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = true;    // searched in the normalized text
  bool special = false;
};

/// Adds `more` to `tokens`; one with the same content or id gives way.
void OverrideAddedTokens(const std::vector<AddedToken>& more, std::vector<AddedToken>* tokens);

/// A part of a text: an added token, or what lies between.
struct AddedTokenSpan {
  size_t begin = 0;
  size_t end = 0;
  std::optional<TokenId> id;
};

/// Finds the leftmost, then longest, of a set of added tokens.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher();
  /// `pattern` is the text to find, `token` what it stands for; an empty one, or one that is no UTF-8, is never found.
  void Add(std::string_view pattern, const AddedToken& token);
  /// Covers `text` with tokens and what lies between.
  std::vector<AddedTokenSpan> Split(std::string_view text) const;

 private:
  struct Found {
    const AddedToken* token;
    size_t end;
  };
  std::optional<Found> LongestAt(std::string_view text, size_t pos) const;

  std::vector<AddedToken> tokens_;
  std::vector<int32_t> token_at_;                 // [nodes] index into tokens_; -1: none
  absl::flat_hash_map<uint64_t, int32_t> edges_;  // node << 8 | byte
  std::array<bool, 256> starts_{};                // bytes that a pattern starts with
};

}  // namespace penstock
