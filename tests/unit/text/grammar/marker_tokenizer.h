// A tokenizer for tests of grammars: ids are bytes, and some texts are special tokens besides.
// Owns the special tokens. Must not know grammars.
// Threads: immutable.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/grammar.h"
#include "penstock/tokenizer.h"

namespace penstock {

class MarkerTokenizer final : public Tokenizer {
 public:
  explicit MarkerTokenizer(std::vector<std::string> specials) : specials_(std::move(specials)) {}
  std::vector<TokenId> Encode(std::string_view text, bool) const override {
    std::vector<TokenId> ids;
    while (!text.empty()) {
      size_t taken = 1;
      TokenId id = static_cast<unsigned char>(text[0]);
      for (size_t i = 0; i < specials_.size(); ++i) {
        if (!text.starts_with(specials_[i])) continue;
        taken = specials_[i].size();
        id = 256 + static_cast<TokenId>(i);
      }
      ids.push_back(id);
      text.remove_prefix(taken);
    }
    return ids;
  }
  std::string Decode(absl::Span<const TokenId> ids, bool skip) const override {
    std::string text;
    for (const TokenId id : ids) text += skip && is_special(id) ? "" : Piece(id);
    return text;
  }
  std::string Piece(TokenId id) const override {
    return id < 256 ? std::string(1, static_cast<char>(id))
                    : specials_[static_cast<size_t>(id) - 256];
  }
  bool strips_first_space() const override { return false; }
  bool is_special(TokenId id) const override { return id >= 256; }
  std::optional<TokenId> TokenToId(std::string_view token) const override {
    const auto it = std::find(specials_.begin(), specials_.end(), token);
    if (it == specials_.end()) return std::nullopt;
    return 256 + static_cast<TokenId>(it - specials_.begin());
  }
  int32_t vocab_size() const override { return 256 + static_cast<int32_t>(specials_.size()); }

 private:
  const std::vector<std::string> specials_;
};

inline std::vector<TokenId> Allowed(TokenMatcher& matcher, int32_t vocab_size) {
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size) + 31) / 32);
  matcher.FillMask(absl::MakeSpan(words));
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < vocab_size; ++id) {
    if ((words[id / 32] >> (id % 32) & 1) != 0) ids.push_back(id);
  }
  return ids;
}

}  // namespace penstock
