// A tokenizer whose ids are bytes: 0..255 stand for themselves, 256 is <bos>, 257 is <eos>.
// Owns nothing. Must not know more.
// Threads: immutable.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "penstock/tokenizer.h"

namespace penstock {

class FakeTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256, kEos = 257;
  std::vector<TokenId> Encode(std::string_view text, bool add_special) const override {
    std::vector<TokenId> ids;
    if (add_special) ids.push_back(kBos);
    for (char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  void AddSpecial(std::vector<TokenId>* ids) const override { ids->insert(ids->begin(), kBos); }
  /// <bos> first <eos> second
  absl::StatusOr<std::vector<TokenId>> JoinPair(absl::Span<const TokenId> first,
                                                absl::Span<const TokenId> second,
                                                int32_t* second_begin) const override {
    std::vector<TokenId> ids = {kBos};
    ids.insert(ids.end(), first.begin(), first.end());
    ids.push_back(kEos);
    *second_begin = static_cast<int32_t>(ids.size());
    ids.insert(ids.end(), second.begin(), second.end());
    return ids;
  }
  std::string Decode(absl::Span<const TokenId> ids, bool skip_special) const override {
    std::string text;
    for (TokenId id : ids) {
      if (!is_special(id) || !skip_special) text += Piece(id);
    }
    return text;
  }
  std::string Piece(TokenId id) const override {
    if (id == kBos) return "<bos>";
    if (id == kEos) return "<eos>";
    return id >= 0 && id < 256 ? std::string(1, static_cast<char>(id)) : std::string();
  }
  bool strips_first_space() const override { return false; }
  bool is_special(TokenId id) const override { return id == kBos || id == kEos; }
  std::optional<TokenId> TokenToId(std::string_view token) const override {
    if (token == "<bos>") return kBos;
    if (token == "<eos>") return kEos;
    return std::nullopt;
  }
  int32_t vocab_size() const override { return 258; }
};

/// The ids of a text.
inline std::vector<TokenId> Ids(std::string_view text) {
  return FakeTokenizer().Encode(text, false);
}

}  // namespace penstock
