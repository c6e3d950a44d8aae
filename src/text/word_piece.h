// WordPiece (Schuster and Nakajima 2012): a word is the longest token that it starts with, and so
// on; and its simplest sibling, in which a word is one token.
// Owns the vocabulary. Must not know normalizing, splitting or special tokens.
// Threads: immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "text/byte_trie.h"
#include "text/tokenizer_model.h"
#include "text/vocabulary.h"

namespace penstock {

struct WordPieceConfig {
  std::vector<std::pair<std::string, TokenId>> vocab;
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";  // of every token but a word's first
  int64_t max_input_chars_per_word = 100;        // a longer word is unknown
  bool whole_words = false;                      // a word is one token or unknown
};

class WordPiece final : public TokenizerModel {
 public:
  static absl::StatusOr<std::unique_ptr<WordPiece>> Make(WordPieceConfig config);

  void Tokenize(std::string_view word, std::vector<TokenId>* ids) const override;
  std::optional<TokenId> TokenToId(std::string_view token) const override {
    return vocabulary_.Find(token);
  }
  const std::string* IdToToken(TokenId id) const override { return vocabulary_.Token(id); }
  int32_t vocab_size() const override { return vocabulary_.size(); }
  int32_t num_tokens() const override { return vocabulary_.num_tokens(); }

 private:
  WordPiece() = default;

  Vocabulary vocabulary_;
  ByteTrie trie_;
  int32_t continuing_ = ByteTrie::kNone;  // the node behind the prefix
  std::optional<TokenId> unk_;            // without, unknown words are dropped
  int64_t max_characters_ = 0;
  bool whole_words_ = false;
};

}  // namespace penstock
