// The part of a tokenizer that turns one word into tokens: BPE, Unigram, WordPiece.
// Owns nothing here. Must not know normalizing, splitting or special tokens.
// Threads: immutable; every method may be called from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/types.h"

namespace penstock {

class TokenizerModel {
 public:
  virtual ~TokenizerModel() = default;
  /// Appends the tokens of `word`, which is not empty.
  virtual void Tokenize(std::string_view word, std::vector<TokenId>* ids) const = 0;
  /// The length of a start of `text`, which is not empty, whose tokens do not depend on the rest,
  /// nor the rest's on it.
  virtual size_t IndependentPrefix(std::string_view text) const { return text.size(); }
  virtual std::optional<TokenId> TokenToId(std::string_view token) const = 0;
  /// nullptr where no token has that id.
  virtual const std::string* IdToToken(TokenId id) const = 0;
  /// One more than the largest id.
  virtual int32_t vocab_size() const = 0;
  /// How many tokens there are; less than vocab_size() where ids have gaps.
  virtual int32_t num_tokens() const = 0;
};

}  // namespace penstock
