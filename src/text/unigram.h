// The unigram language model (Kudo 2018): of all ways to cut a word into pieces, the one with the
// largest sum of scores.
// Owns the pieces. Must not know normalizing, splitting or special tokens.
// Threads: immutable.
#pragma once

#include <array>
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

struct UnigramConfig {
  enum class Kind : uint8_t { kNormal, kNeverFound, kAlwaysFound };
  std::vector<std::pair<std::string, double>> pieces;  // their ids are 0, 1, ...
  std::vector<Kind> kinds;                             // [pieces]; empty: all are normal
  std::optional<TokenId> unk_id;
  bool byte_fallback = false;     // unknown characters become <0xNN> tokens
  bool single_precision = false;  // sums are float32, as SentencePiece's
};

class Unigram final : public TokenizerModel {
 public:
  /// INVALID_ARGUMENT where the unknown token's id is not one of a piece, or a score is no number.
  static absl::StatusOr<std::unique_ptr<Unigram>> Make(UnigramConfig config);

  void Tokenize(std::string_view word, std::vector<TokenId>* ids) const override;
  std::optional<TokenId> TokenToId(std::string_view token) const override {
    return vocabulary_.Find(token);
  }
  const std::string* IdToToken(TokenId id) const override { return vocabulary_.Token(id); }
  int32_t vocab_size() const override { return vocabulary_.size(); }
  int32_t num_tokens() const override { return vocabulary_.num_tokens(); }

 private:
  struct Node;  // the best path to a position

  Unigram() = default;
  void IndexScores(const UnigramConfig& config);
  double Score(TokenId id, size_t length) const;
  void Extend(std::vector<Node>& nodes, size_t begin, size_t end, TokenId id, double sum) const;
  void FindPaths(std::string_view word, std::vector<Node>& nodes) const;
  void AppendPiece(std::string_view piece, std::vector<TokenId>* ids) const;

  Vocabulary vocabulary_;
  ByteTrie trie_;
  std::vector<double> scores_;              // [pieces]
  std::vector<UnigramConfig::Kind> kinds_;  // [pieces], or empty
  std::array<TokenId, 256> byte_tokens_;    // -1: none
  std::optional<TokenId> unk_;
  double unk_score_ = 0;
  double max_score_ = 0;
  bool byte_fallback_ = false;
  bool single_precision_ = false;
};

}  // namespace penstock
