// The rewriting rules that SentencePiece precompiles into a model: a double-array trie of strings
// and what each becomes.
// Owns a copy of the rules. Must not know tokens.
// Threads: immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

class Charsmap {
 public:
  /// `blob`: the size of the trie in bytes (32 bits), the trie in units of 32 bits, the strings
  /// with a NUL after each; all little-endian. INVALID_ARGUMENT where it is cut or no UTF-8.
  static absl::StatusOr<Charsmap> Parse(std::string_view blob);

  struct Rule {
    size_t length = 0;  // of the text that it matches
    std::string_view replacement;
  };
  /// The shortest, or longest, rule that `text` starts with.
  std::optional<Rule> Shortest(std::string_view text) const { return Search(text, true); }
  std::optional<Rule> Longest(std::string_view text) const { return Search(text, false); }

  /// As the "Precompiled" normalizer of a tokenizer.json: a grapheme of at most 5 bytes, else each
  /// of its code points, becomes the replacement of the shortest rule that it starts with.
  std::string NormalizeGraphemes(std::string_view text) const;

 private:
  std::optional<Rule> Search(std::string_view text, bool shortest) const;
  void AppendGrapheme(std::string_view grapheme, std::string* out) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace penstock
