// The tokenizer that a tokenizer.json describes: added tokens, normalizer, pre-tokenizer, model,
// post-processor, decoder.
// Owns those parts. Must not know JSON or files.
// Threads: immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "penstock/tokenizer.h"
#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pretokenizer.h"
#include "text/token_decoder.h"
#include "text/tokenizer_model.h"

namespace penstock {

struct TokenizerParts {
  std::vector<AddedToken> added_tokens;         // their ids are final
  std::unique_ptr<Normalizer> normalizer;       // nullptr: none
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // nullptr: none
  std::unique_ptr<TokenizerModel> model;
  std::optional<PostProcessor> post_processor;
  std::unique_ptr<TokenDecoder> decoder;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  std::vector<TokenId> Encode(std::string_view text, bool add_special) const override;
  void AddSpecial(std::vector<TokenId>* ids) const override;
  absl::StatusOr<std::vector<TokenId>> JoinPair(absl::Span<const TokenId> first,
                                                absl::Span<const TokenId> second,
                                                int32_t* second_begin) const override;
  std::string Decode(absl::Span<const TokenId> ids, bool skip_special) const override;
  std::string Piece(TokenId id) const override;
  bool strips_first_space() const override { return parts_.decoder->strips_first_space(); }
  bool is_special(TokenId id) const override;
  std::optional<TokenId> TokenToId(std::string_view token) const override;
  int32_t vocab_size() const override { return vocab_size_; }

 private:
  void EncodeSegment(std::string_view segment, bool starts_input, std::vector<TokenId>* ids) const;
  void EncodeByteLevelWords(const ByteLevelPreTokenizer& byte_level, std::string_view text,
                            std::vector<TokenId>* ids) const;
  // The tokens of a word as the model sees it, from the cache where they are there.
  void EncodeWord(std::string_view word, std::vector<TokenId>* ids) const;
  void EncodeWords(std::string_view text, bool starts_input, std::vector<TokenId>* ids) const;
  // An added token that is searched in normalized text reads as its normalized content, as in the
  // reference.
  const std::string* TokenOf(TokenId id) const;

  TokenizerParts parts_;
  AddedTokenMatcher raw_matcher_;         // of tokens found in the text as it is
  AddedTokenMatcher normalized_matcher_;  // of tokens found in the normalized text
  absl::flat_hash_map<TokenId, std::string> added_texts_;
  absl::flat_hash_map<std::string, TokenId> added_ids_;  // by content
  absl::flat_hash_set<std::string> special_;             // contents
  int32_t vocab_size_ = 0;
  uint32_t cache_owner_;  // of this object alone
};

}  // namespace penstock
