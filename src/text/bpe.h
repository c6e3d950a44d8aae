// Byte-pair encoding (Sennrich et al. 2016): the neighbours of the best rank merge until none is
// left that may.
// Owns vocabulary and merges. Must not know normalizing, splitting or special tokens.
// Threads: immutable, but for marks of what it has learned, which are atomic.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "text/tokenizer_model.h"
#include "text/vocabulary.h"

namespace penstock {

struct BpeConfig {
  std::vector<std::pair<std::string, TokenId>> vocab;
  std::vector<std::pair<std::string, std::string>> merges;  // best first
  // [tokens by id] Instead of merges, the way of SentencePiece and tiktoken: any two neighbours
  // that together spell a token may become it, the one of the least rank first; -1: never.
  std::vector<int32_t> token_ranks;
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix;  // of every character but a word's first
  std::string end_of_word_suffix;         // of a word's last character
  bool fuse_unk = false;                  // neighbouring unknown characters are one unknown token
  bool byte_fallback = false;             // unknown characters become <0xNN> tokens
  bool ignore_merges = false;             // a word that is a token is that token
};

class Bpe final : public TokenizerModel {
 public:
  /// INVALID_ARGUMENT where a merge or the unknown token is not in the vocabulary, or a token with
  /// a rank is longer than 1 KiB.
  static absl::StatusOr<std::unique_ptr<Bpe>> Make(BpeConfig config);

  void Tokenize(std::string_view word, std::vector<TokenId>* ids) const override;
  std::optional<TokenId> TokenToId(std::string_view token) const override {
    return vocabulary_.Find(token);
  }
  const std::string* IdToToken(TokenId id) const override { return vocabulary_.Token(id); }
  int32_t vocab_size() const override { return vocabulary_.size(); }
  int32_t num_tokens() const override { return vocabulary_.num_tokens(); }
  size_t IndependentPrefix(std::string_view text) const override;

 private:
  struct Merge {
    uint32_t rank;
    TokenId id;
  };
  // Whether a token's own text encodes to that token alone, learned at its first use.
  enum Whole : uint8_t { kUnknown, kIsWhole, kIsParts };

  explicit Bpe(BpeConfig config) : config_(std::move(config)) {}
  absl::Status IndexMerges();
  absl::Status IndexRankedTokens();
  bool NothingJoinsBeforeBlank() const;
  void IndexCharacters();
  const Merge* FindMerge(TokenId left, TokenId right) const;
  void AppendCharacters(std::string_view word, std::vector<TokenId>* symbols) const;
  std::optional<TokenId> CharacterToken(std::string_view character, bool first, bool last) const;
  bool AppendByteTokens(std::string_view character, std::vector<TokenId>* symbols) const;
  void MergeShort(std::vector<TokenId>* symbols) const;
  void MergeLong(std::vector<TokenId>* symbols) const;

  BpeConfig config_;  // the tables are emptied
  Vocabulary vocabulary_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // key: left << 32 | right
  std::vector<TokenId> low_characters_;          // [0x180] by code point; -1: none
  std::array<TokenId, 256> byte_tokens_;         // -1: none
  std::optional<TokenId> unk_;
  bool splits_before_blank_ = false;  // no merge joins a U+2581 to something else before it
  std::unique_ptr<std::atomic<uint8_t>[]> whole_;  // [vocab_size] of Whole
};

}  // namespace penstock
